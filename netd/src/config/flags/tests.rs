use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Cli, CliError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let args = ["netd"].iter().chain(args).map(OsString::from);
    Cli::read(args, |name| variables.get(name).map(OsString::from))
}

fn flags(args: &[&str]) -> Config {
    read(args, &[]).expect("good flags").config
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let error = read(args, variables).expect_err("wrong flags");
    assert_eq!(error.exit_code(), 1, "{error}");
    error.to_string()
}

#[test]
fn the_defaults_are_flannels() {
    let cli = read(&[], &[]).expect("no flags");
    let flags = cli.config;
    assert_eq!(cli.command, None);
    assert_eq!(flags.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    assert!(!flags.rules.ip_masq && !flags.rules.ip_masq_fully_random_disable && flags.rules.accept_forwarded);
    let underlay = flags.underlay;
    assert!(underlay.ifaces.is_empty() && underlay.regexes.is_empty() && underlay.public_ip.is_none());
    assert_eq!((flags.cni.conf_dir, flags.cni.conf_name.as_str()), (None, "10-netd.conflist"));
}

#[test]
fn one_dash_or_two_with_a_space_or_an_equals_sign() {
    for args in [["-iface", "eth1"], ["--iface", "eth1"]] {
        assert_eq!(flags(&args).underlay.ifaces, ["eth1"]);
    }
    assert_eq!(
        flags(&["-iface=eth1", "--iface=10.0.0.1"]).underlay.ifaces,
        ["eth1", "10.0.0.1"],
        "repeated, in their order"
    );
    assert_eq!(flags(&["-iface-regex", "eth[0-9]{1,2}"]).underlay.regexes[0].as_str(), "eth[0-9]{1,2}");
}

#[test]
fn booleans_as_in_go() {
    for yes in ["--ip-masq", "-ip-masq", "--ip-masq=true", "-ip-masq=1", "--ip-masq=t", "--ip-masq=TRUE"] {
        assert!(flags(&[yes]).rules.ip_masq, "{yes}");
    }
    for no in ["--ip-masq=false", "-ip-masq=0", "--ip-masq=F"] {
        assert!(!flags(&[no]).rules.ip_masq, "{no}");
    }
    assert!(!flags(&["-iptables-forward-rules=false"]).rules.accept_forwarded);
}

#[test]
fn variables_stand_in_for_flags_and_lose_against_them() {
    let variables = [
        ("FLANNELD_IFACE", "eth1,10.0.0.1"),
        ("FLANNELD_IP_MASQ", "true"),
        ("NODE_NAME", "n1"),
        ("FLANNELD_PUBLIC_IP", ""),
    ];
    let given = read(&[], &variables).expect("variables").config;
    assert_eq!(
        (given.underlay.ifaces.as_slice(), given.rules.ip_masq),
        (&["eth1".to_owned(), "10.0.0.1".to_owned()][..], true)
    );
    assert_eq!(given.node_name.map(|name| name.to_string()).as_deref(), Some("n1"));
    assert_eq!(given.underlay.public_ip, None, "an empty variable is none");
    let given = read(&["-iface=eth2", "--ip-masq=false"], &variables).expect("flags win").config;
    assert_eq!((given.underlay.ifaces, given.rules.ip_masq), (vec!["eth2".to_owned()], false));
}

#[test]
fn flags_stand_before_or_after_the_subcommand() {
    for args in [["--store-dir=/s", "plan"], ["plan", "--store-dir=/s"]] {
        let cli = read(&args, &[]).expect("plan");
        assert_eq!((cli.command, cli.config.store.store_dir), (Some(Command::Plan), Some(PathBuf::from("/s"))));
    }
    let cli = read(&["plan"], &[("FLANNELD_STORE_DIR", "/s")]).expect("variable");
    assert_eq!(cli.config.store.store_dir, Some(PathBuf::from("/s")));
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
    for flag in ["-v=4", "--vmodule=a=1"] {
        assert!(refusal(&[flag], &[]).contains("netd does not support"), "{flag}");
    }
    assert!(refusal(&[], &[("FLANNELD_VMODULE", "/x")]).contains("FLANNELD_VMODULE"));
    read(&[], &[("FLANNELD_VMODULE", "")]).expect("an empty variable is none");
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
