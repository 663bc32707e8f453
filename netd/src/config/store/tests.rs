use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::config::flags::Cli;

fn store(args: &[&str]) -> Result<StoreConfig, String> {
    let args = ["netd"].iter().chain(args).map(OsString::from);
    let config = Cli::read(args, |_| None).expect("good flags").config;
    config.store.choose(&config.subnet_file).map_err(|error| error.to_string())
}

fn etcd(args: &[&str]) -> Result<EtcdConfig, String> {
    match store(args)? {
        StoreConfig::Etcd(config) => Ok(config),
        other => panic!("etcd is chosen by {args:?}, not {other:?}"),
    }
}

fn kube(args: &[&str]) -> Result<KubeConfig, String> {
    match store(&[&["--kube-subnet-mgr"], args].concat())? {
        StoreConfig::Kube(config) => Ok(config),
        other => panic!("the API server is chosen by {args:?}, not {other:?}"),
    }
}

#[test]
fn a_directory_is_the_store_if_no_other_is_chosen() {
    for (args, dir, net_conf) in [
        (&[][..], "/var/lib/netd/store", None),
        (&["--store-dir=/s", "--net-config-path=/n", "--subnet-lease-renew-margin=5"], "/s", Some("/n".into())),
    ] {
        match store(args).expect("good flags") {
            StoreConfig::Dir(config) => assert_eq!(config, DirConfig { dir: dir.into(), net_conf }),
            other => panic!("a directory is chosen by {args:?}, not {other:?}"),
        }
    }
}

#[test]
fn any_flag_of_etcds_chooses_etcd_with_flannels_defaults() {
    for flag in ["endpoints=http://a", "prefix=/x", "cafile=a", "keyfile=k", "certfile=c", "username=u", "password=p"] {
        if let Ok(StoreConfig::Dir(_) | StoreConfig::Kube(_)) = store(&[&format!("--etcd-{flag}")]) {
            panic!("--etcd-{flag} does not choose etcd");
        }
    }
    let config = etcd(&["--etcd-prefix=/x"]).expect("a prefix");
    assert_eq!(config.endpoints, ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]);
    let config = etcd(&["-etcd-endpoints", "https://a:2379,https://b:2379"]).expect("endpoints");
    assert_eq!(config.endpoints, ["https://a:2379", "https://b:2379"]);
    assert_eq!((config.prefix.as_str(), config.renew_margin), ("/coreos.com/network/", Duration::from_hours(1)));
}

#[test]
fn endpoints_get_a_scheme() {
    let endpoints = |text: &str, more: &[&str]| {
        let endpoints = format!("--etcd-endpoints={text}");
        etcd(&[&[endpoints.as_str()], more].concat()).map(|config| config.endpoints)
    };
    let ca = &["--etcd-cafile=ca.pem"];
    assert_eq!(endpoints("10.0.0.1:2379", &[]).expect("no scheme"), ["http://10.0.0.1:2379"]);
    assert_eq!(endpoints("10.0.0.1:2379", ca).expect("no scheme"), ["https://10.0.0.1:2379"]);
    assert_eq!(endpoints(" https://a:1/,http://b:2", &[]).expect("two"), ["https://a:1", "http://b:2"]);
    for (text, more, word) in [("http://a:1", &ca[..], "https://"), ("unix://a", &[], "http://"), ("a:1,", &[], "like")]
    {
        let error = endpoints(text, more).expect_err(text);
        assert!(error.contains("--etcd-endpoints") && error.contains(word), "{error}");
    }
}

#[test]
fn the_prefix_of_etcds_keys_ends_with_one_slash() {
    for prefix in ["/x/y", "/x/y/", "/x/y//"] {
        assert_eq!(etcd(&[&format!("--etcd-prefix={prefix}")]).expect(prefix).prefix, "/x/y/");
    }
}

#[test]
fn halves_are_refused_by_name() {
    for [given, missing] in [
        ["--etcd-certfile", "--etcd-keyfile"],
        ["--etcd-keyfile", "--etcd-certfile"],
        ["--etcd-username", "--etcd-password"],
        ["--etcd-password", "--etcd-username"],
    ] {
        let error = etcd(&[&format!("{given}=x")]).expect_err(given);
        assert_eq!(error, format!("etcd cannot be the store: {given} needs {missing} too"));
    }
}

#[test]
fn the_defaults_of_the_api_server_are_flannels() {
    let config = kube(&[]).expect("no flags");
    assert_eq!(config.net_conf, NetConfSource::File("/etc/kube-flannel/net-conf.json".into()));
    assert_eq!(config.cache_file, PathBuf::from("/var/lib/netd/netd.known.json"));
    assert_eq!(config.annotation_prefix.to_string(), "flannel.alpha.coreos.com/");
    assert!(config.sets_condition && config.pod.is_none() && config.url.is_none() && config.kubeconfig.is_none());
}

#[test]
fn a_flag_of_the_api_servers_replaces_its_default() {
    let config = kube(&[
        "--net-conf-configmap=kube-flannel/kube-flannel-cfg",
        "--set-node-network-unavailable=false",
        "--kubeconfig-file=/k",
        "--pod-name=p",
        "--pod-namespace=n",
    ])
    .expect("good flags");
    let map = NetConfSource::ConfigMap { namespace: "kube-flannel".to_owned(), name: "kube-flannel-cfg".to_owned() };
    assert_eq!((config.net_conf, config.pod), (map, Some(("n".to_owned(), "p".to_owned()))));
    assert_eq!((config.sets_condition, config.kubeconfig), (false, Some("/k".into())));
    let other = kube(&["--subnet-file=/run/other/subnet.env"]).expect("good flags");
    assert_ne!(other.cache_file, kube(&[]).expect("no flags").cache_file, "two daemons of one host have two files");
}

#[test]
fn a_wrong_value_is_refused_with_a_right_one() {
    for (args, words) in [
        (&["--kube-annotation-prefix=a.b/c/d"][..], ["--kube-annotation-prefix", "single slash"]),
        (&["--kube-annotation-prefix=org"], ["org", "prefix must be in a format: fqdn/[0-9a-z-_]*"]),
        (&["--kube-api-url=10.0.0.1:6443"], ["--kube-api-url", "https://"]),
        (&["--net-conf-configmap=cfg"], ["--net-conf-configmap", "NAMESPACE/NAME"]),
        (&["--net-conf-configmap=a/../b"], ["--net-conf-configmap", "NAMESPACE/NAME"]),
        (&["--net-conf-configmap=a/b", "--net-config-path=/x"], ["--net-conf-configmap", "--net-config-path"]),
        (&["--store-dir=/s"], ["--store-dir", "--kube-subnet-mgr"]),
        (&["--etcd-prefix=/x"], ["--etcd-", "--kube-subnet-mgr"]),
    ] {
        let refusal = kube(args).expect_err("wrong flags");
        assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    }
    for (args, words) in [
        (&["--etcd-prefix=/x", "--store-dir=/s"], ["--store-dir", "--etcd-"]),
        (&["--etcd-prefix=/x", "--net-config-path=/n"], ["--net-config-path", "PREFIX/config"]),
        (&["--kube-api-url=http://a", "--store-dir=/s"], ["--kube-api-url", "--kube-subnet-mgr"]),
    ] {
        let refusal = store(args).expect_err("flags of two stores");
        assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    }
}

#[test]
fn prefixes_are_flannels() {
    for (prefix, key) in [
        ("flannel.alpha.coreos.com", "flannel.alpha.coreos.com/backend-type"),
        ("flannel.alpha.coreos.com/", "flannel.alpha.coreos.com/backend-type"),
        ("flannel.alpha.coreos.com/prefix", "flannel.alpha.coreos.com/prefix-backend-type"),
        ("flannel.alpha.coreos.com/prefix-", "flannel.alpha.coreos.com/prefix-backend-type"),
        ("org.com", "org.com/backend-type"),
        ("org9.com", "org9.com/backend-type"),
        ("org.com/9", "org.com/9-backend-type"),
    ] {
        let prefix: AnnotationPrefix = prefix.parse().expect(prefix);
        assert_eq!(format!("{prefix}backend-type"), key);
    }
    for prefix in ["org", "org/", "org/prefix", "org.COM", "org.com/PREFIX", "", "org..com", "org.com/a b", "a.b/c/d"] {
        prefix.parse::<AnnotationPrefix>().expect_err(prefix);
    }
}
