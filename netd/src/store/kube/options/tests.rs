use std::ffi::OsString;

use super::*;
use crate::config::flags::Cli;

fn options(args: &[&str]) -> Result<Options, String> {
    let args = ["netd", "--kube-subnet-mgr"].iter().chain(args).map(OsString::from);
    let flags = Cli::read(args, |_| None).expect("good flags").flags;
    Options::of(&flags).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_flannels() {
    let options = options(&[]).expect("no flags");
    assert_eq!(options.net_conf, Source::File("/etc/kube-flannel/net-conf.json".into()));
    assert_eq!(options.memory, PathBuf::from("/var/lib/netd/netd.known.json"));
    assert_eq!(options.keys, Keys::new("flannel.alpha.coreos.com").expect("prefix"));
    assert!(options.sets_condition && options.pod.is_none());
}

#[test]
fn what_is_given_counts() {
    let given = options(&["--net-conf-configmap=kube-flannel/kube-flannel-cfg", "--pod-name=p", "--pod-namespace=n"]);
    let given = given.expect("flags");
    let map = Source::ConfigMap { namespace: "kube-flannel".to_owned(), name: "kube-flannel-cfg".to_owned() };
    assert_eq!((given.net_conf, given.pod), (map, Some(("n".to_owned(), "p".to_owned()))));
    let two = options(&["--subnet-file=/run/other/subnet.env"]).expect("flags");
    assert_ne!(two.memory, options(&[]).expect("flags").memory, "two daemons of one host remember each its own");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
    for (args, words) in [
        (&["--kube-annotation-prefix=a.b/c/d"][..], ["--kube-annotation-prefix", "single slash"]),
        (&["--kube-annotation-prefix=org"], ["org", "prefix must be in a format: fqdn/[0-9a-z-_]*"]),
        (&["--kube-api-url=10.0.0.1:6443"], ["--kube-api-url", "https://"]),
        (&["--net-conf-configmap=cfg"], ["--net-conf-configmap", "NAMESPACE/NAME"]),
        (&["--net-conf-configmap=a/../b"], ["--net-conf-configmap", "NAMESPACE/NAME"]),
        (&["--net-conf-configmap=a/b", "--net-config-path=/x"], ["--net-conf-configmap", "--net-config-path"]),
    ] {
        let refusal = options(args).expect_err("flags");
        assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    }
}
