use std::ffi::OsString;

use super::*;

impl Config {
    /// The configuration of a command line, without the program's name.
    pub(crate) fn of(args: &[&str]) -> Self {
        let args = ["netd"].iter().chain(args).map(OsString::from);
        flags::Cli::read(args, |_| None).expect("good flags").config
    }
}

#[test]
fn the_defaults_are_flannels() {
    let config = Config::of(&[]);
    assert_eq!(config.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    assert_eq!((config.rules.masquerade(), config.rules.accept_forwarded), (None, true));
    assert_eq!((config.status.health(), config.status_socket()), (None, PathBuf::from("/run/netd/netd.sock")));
    assert_eq!((config.node_name, config.resync), (None, None));
    let cni = config.cni;
    assert_eq!((&cni.bin_dir, cni.bin_dir()), (&None, Path::new("/opt/cni/bin")));
    assert!(cni.conf_path().is_none() && cni.conf_source.is_none() && cni.plugin.is_none());
}

#[test]
fn a_flag_replaces_its_default() {
    let config = Config::of(&["--ip-masq", "--iptables-resync=7", "--healthz-port=8080", "--healthz-ip=127.0.0.1"]);
    assert_eq!(config.rules.masquerade(), Some(Ports::FullyRandom));
    assert_eq!(config.resync, Some(Duration::from_secs(7)));
    assert_eq!(config.status.health(), Some(([127, 0, 0, 1], 8080).into()));
    let config = Config::of(&["--ip-masq", "--ip-masq-fully-random-disable", "--iptables-forward-rules=false"]);
    assert_eq!((config.rules.masquerade(), config.rules.accept_forwarded), (Some(Ports::Kernel), false));
    let cni = Config::of(&["--cni-bin-dir=/b", "--cni-plugin=/p", "--cni-conf-source=/c", "--cni-conf-dir=/d"]).cni;
    assert_eq!((cni.bin_dir.is_some(), cni.bin_dir()), (true, Path::new("/b")));
    assert_eq!((cni.plugin.as_deref(), cni.conf_source.as_deref()), (Some(Path::new("/p")), Some(Path::new("/c"))));
    assert_eq!(cni.conf_path(), Some(PathBuf::from("/d/10-netd.conflist")));
}

#[test]
fn two_daemons_have_two_sockets() {
    let socket = |args: &[&str]| Config::of(args).status_socket();
    let mark = identity::mark(Path::new("/run/other/subnet.env"));
    let expected = Path::new("/run/other").join(format!("{mark}.sock"));
    assert_eq!(socket(&["--subnet-file=/run/other/subnet.env"]), expected);
    assert_eq!(socket(&["--status-socket=/run/x", "--subnet-file=/y"]), PathBuf::from("/run/x"));
}

#[test]
fn the_choice_of_the_interface_follows_flags_and_network() {
    let (conf, _) =
        NetConf::parse(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}"#).expect("net-conf");
    let options = Config::of(&["--iface=eth1", "--public-ip=192.0.2.1"]).underlay.interface_options(&conf);
    assert_eq!((options.ifaces, options.nat), (vec!["eth1".to_owned()], false));
    assert_eq!((options.public.families().count(), options.pods.len()), (1, 1));
}

#[test]
fn the_proxy_needs_a_source_and_is_off_without_one() {
    let of = |args: &[&str]| {
        let config = Config::of(args);
        (config.proxy.mode(), config.services_source(), config.check_proxy().is_ok())
    };
    let dir = || Some(ServicesSource::Directory("/s".into()));
    assert_eq!(of(&[]), (ProxyMode::Off, None, true));
    assert_eq!(of(&["--services-dir=/s"]), (ProxyMode::Auto, dir(), true));
    assert_eq!(of(&["--services-dir=/s", "--proxy=on", "--proxy-config=/c"]), (ProxyMode::On, dir(), true));
    let (url, kubeconfig) = (Some("http://a".to_owned()), None);
    let api = Some(ServicesSource::Api { url, kubeconfig });
    assert_eq!(of(&["--kube-subnet-mgr", "--kube-api-url=http://a"]), (ProxyMode::Off, api.clone(), true));
    assert_eq!(of(&["--kube-subnet-mgr", "--kube-api-url=http://a", "--proxy=auto"]), (ProxyMode::Auto, api, true));
    for wrong in [&["--proxy=on"][..], &["--proxy=off", "--services-dir=/s"], &["--proxy-config=/c"]] {
        assert!(!of(wrong).2, "{wrong:?} is refused");
    }
}
