use std::collections::BTreeMap;

use super::*;

fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Cli, CliError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let args = ["netd"].iter().chain(args).map(OsString::from);
    Cli::read(args, |name| variables.get(name).map(OsString::from))
}

fn flags(args: &[&str]) -> Flags {
    read(args, &[]).expect("good flags").flags
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let error = read(args, variables).expect_err("wrong flags");
    assert_eq!(error.exit_code(), 1, "{error}");
    error.to_string()
}

#[test]
fn the_defaults_are_flannels() {
    let cli = read(&[], &[]).expect("no flags");
    let flags = cli.flags;
    assert_eq!(cli.command, None);
    assert_eq!(flags.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    assert!(!flags.ip_masq && !flags.ip_masq_fully_random_disable && flags.iptables_forward_rules);
    assert!(flags.iface.is_empty() && flags.iface_regex.is_empty() && flags.public_ip.is_none());
    assert_eq!(flags.store_dir(), PathBuf::from("/var/lib/netd/store"));
    assert_eq!((flags.cni_conf_dir, flags.cni_conf_name.as_str()), (None, "10-netd.conflist"));
}

#[test]
fn one_dash_or_two_with_a_space_or_an_equals_sign() {
    for args in [["-iface", "eth1"], ["--iface", "eth1"]] {
        assert_eq!(flags(&args).iface, ["eth1"]);
    }
    assert_eq!(flags(&["-iface=eth1", "--iface=10.0.0.1"]).iface, ["eth1", "10.0.0.1"], "repeated, in their order");
    assert_eq!(flags(&["-iface-regex", "eth[0-9]{1,2}"]).iface_regex[0].as_str(), "eth[0-9]{1,2}");
}

#[test]
fn booleans_as_in_go() {
    for yes in ["--ip-masq", "-ip-masq", "--ip-masq=true", "-ip-masq=1", "--ip-masq=t", "--ip-masq=TRUE"] {
        assert!(flags(&[yes]).ip_masq, "{yes}");
    }
    for no in ["--ip-masq=false", "-ip-masq=0", "--ip-masq=F"] {
        assert!(!flags(&[no]).ip_masq, "{no}");
    }
    assert!(!flags(&["-iptables-forward-rules=false"]).iptables_forward_rules);
}

#[test]
fn variables_stand_in_for_flags_and_lose_against_them() {
    let variables = [
        ("FLANNELD_IFACE", "eth1,10.0.0.1"),
        ("FLANNELD_IP_MASQ", "true"),
        ("NODE_NAME", "n1"),
        ("FLANNELD_PUBLIC_IP", ""),
    ];
    let given = read(&[], &variables).expect("variables").flags;
    assert_eq!((given.iface, given.ip_masq), (vec!["eth1".to_owned(), "10.0.0.1".to_owned()], true));
    assert_eq!(given.node_name.map(|name| name.to_string()).as_deref(), Some("n1"));
    assert_eq!(given.public_ip, None, "an empty variable is none");
    let given = read(&["-iface=eth2", "--ip-masq=false"], &variables).expect("flags win").flags;
    assert_eq!((given.iface, given.ip_masq), (vec!["eth2".to_owned()], false));
}

#[test]
fn flags_stand_before_or_after_the_subcommand() {
    for args in [["--store-dir=/s", "plan"], ["plan", "--store-dir=/s"]] {
        let cli = read(&args, &[]).expect("plan");
        assert_eq!((cli.command, cli.flags.store_dir()), (Some(Command::Plan), PathBuf::from("/s")));
    }
    let cli = read(&["plan"], &[("FLANNELD_STORE_DIR", "/s")]).expect("variable");
    assert_eq!(cli.flags.store_dir(), PathBuf::from("/s"));
    assert_eq!(read(&["cleanup"], &[]).expect("cleanup").command, Some(Command::Cleanup));
    assert_eq!(read(&["install-cni"], &[]).expect("install-cni").command, Some(Command::InstallCni));
    for version in ["version", "--version", "-version"] {
        assert_eq!(read(&[version], &[]).expect(version).command, Some(Command::Version));
    }
}

#[test]
fn a_wrong_value_names_flag_value_and_variable() {
    let cases = [
        ("--public-ip", "2001:db8::1", "FLANNELD_PUBLIC_IP"),
        ("--public-ipv6", "192.0.2.1", "FLANNELD_PUBLIC_IPV6"),
        ("--iface-regex", "eth[", "FLANNELD_IFACE_REGEX"),
        ("--iface-can-reach", "host", "FLANNELD_IFACE_CAN_REACH"),
        ("--iptables-resync", "0", "FLANNELD_IPTABLES_RESYNC"),
        ("--ip-masq", "maybe", "FLANNELD_IP_MASQ"),
        ("--node-name", "a/b", "NODE_NAME"),
        ("--cni-conf-name", "../x.conflist", "FLANNELD_CNI_CONF_NAME"),
        ("--subnet-lease-renew-margin", "1440", "FLANNELD_SUBNET_LEASE_RENEW_MARGIN"),
        ("--healthz-ip", "localhost", "FLANNELD_HEALTHZ_IP"),
        ("--healthz-port", "65536", "FLANNELD_HEALTHZ_PORT"),
    ];
    for (flag, value, variable) in cases {
        for message in [refusal(&[&format!("{flag}={value}")], &[]), refusal(&[], &[(variable, value)])] {
            assert!([flag, value, variable].iter().all(|part| message.contains(part)), "{message}");
        }
    }
    assert!(refusal(&["--no-such-flag"], &[]).contains("--no-such-flag"));
    assert!(refusal(&["no-such-command"], &[]).contains("no-such-command"));
}

#[test]
fn flannels_flags_that_netd_lacks_are_refused_aloud() {
    for flag in ["--ip-blackhole-route", "-v=4", "--vmodule=a=1"] {
        assert!(refusal(&[flag], &[]).contains("netd does not support"), "{flag}");
    }
    assert!(refusal(&[], &[("FLANNELD_VMODULE", "/x")]).contains("FLANNELD_VMODULE"));
    read(&[], &[("FLANNELD_VMODULE", "")]).expect("an empty variable is none");
}

#[test]
fn any_flag_of_etcds_chooses_etcd_with_flannels_defaults() {
    let etcd = |args: &[&str]| flags(args).etcd;
    assert!(!etcd(&[]).is_chosen() && !etcd(&["--subnet-lease-renew-margin=5"]).is_chosen());
    for flag in ["endpoints=http://a", "prefix=/x", "keyfile=k", "certfile=c", "cafile=a", "username=u", "password=p"] {
        assert!(etcd(&[&format!("--etcd-{flag}")]).is_chosen(), "{flag}");
    }
    let given = etcd(&["--etcd-prefix=/x"]);
    assert_eq!(given.endpoints().collect::<Vec<_>>(), ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]);
    let given = etcd(&["-etcd-endpoints", "https://a:2379,https://b:2379"]);
    assert_eq!(given.endpoints().collect::<Vec<_>>(), ["https://a:2379", "https://b:2379"]);
    assert_eq!((given.prefix(), given.renew_margin().as_secs()), ("/coreos.com/network", 3600));
}

#[test]
fn the_api_servers_flags_are_flannels() {
    let kube = flags(&[]).kube;
    assert!(!kube.kube_subnet_mgr && kube.set_node_network_unavailable);
    assert_eq!(kube.kube_annotation_prefix, "flannel.alpha.coreos.com");
    let kube = flags(&["-kube-subnet-mgr", "--set-node-network-unavailable=false", "--kubeconfig-file=/k"]).kube;
    assert!(kube.kube_subnet_mgr && !kube.set_node_network_unavailable);
    let kube = read(&[], &[("FLANNELD_KUBE_SUBNET_MGR", "true"), ("POD_NAME", "p")]).expect("variables").flags.kube;
    assert_eq!((kube.kube_subnet_mgr, kube.pod_name.as_deref()), (true, Some("p")));
}

#[test]
fn plugins_go_where_every_runtime_looks_unless_told_otherwise() {
    assert_eq!(flags(&[]).cni.bin_dir(), PathBuf::from("/opt/cni/bin"));
    let given = flags(&["--cni-bin-dir=/b", "--cni-plugin=/p", "--cni-conf-source=/c"]).cni;
    assert_eq!(given.bin_dir(), PathBuf::from("/b"));
    assert_eq!((given.cni_plugin, given.cni_conf_source), (Some("/p".into()), Some("/c".into())));
}

#[test]
fn help_is_no_error_and_names_the_variables() {
    for help in ["-h", "--help", "-help"] {
        let error = read(&[help], &[]).expect_err("help ends the program");
        assert_eq!(error.exit_code(), 0);
        let text = error.to_string();
        for part in ["--iface-can-reach", "FLANNELD_SUBNET_FILE", "plan", "cleanup"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}

#[test]
fn the_interface_is_wished_for_as_flags_and_configuration_say() {
    let (conf, _) =
        NetConf::parse(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}"#).expect("net-conf");
    let wishes = flags(&["--iface=eth1", "--public-ip=192.0.2.1"]).wishes(&conf);
    assert_eq!((wishes.ifaces, wishes.nat), (vec!["eth1".to_owned()], false));
    assert_eq!((wishes.public.families().count(), wishes.pods.len()), (1, 1));
}
