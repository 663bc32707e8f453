use super::*;

fn flags() -> EtcdFlags {
    EtcdFlags::default()
}

fn endpoints(given: &[&str], secure: bool) -> Result<Vec<String>, String> {
    let given = given.iter().map(ToString::to_string).collect();
    let etcd_cafile = secure.then(|| "ca.pem".into());
    let flags = EtcdFlags { etcd_endpoints: given, etcd_cafile, ..flags() };
    Options::new(&flags).map(|options| options.endpoints).map_err(|error| error.to_string())
}

#[test]
fn endpoints_without_a_scheme_get_one() {
    assert_eq!(endpoints(&["10.0.0.1:2379"], false).expect("no scheme"), ["http://10.0.0.1:2379"]);
    assert_eq!(endpoints(&["10.0.0.1:2379"], true).expect("no scheme"), ["https://10.0.0.1:2379"]);
    assert_eq!(endpoints(&[" https://a:1/", "http://b:2"], false).expect("two"), ["https://a:1", "http://b:2"]);
    for (given, secure, word) in
        [(&["http://a:1"][..], true, "https://"), (&["unix://a"], false, "http://"), (&["a:1", ""], false, "like")]
    {
        let error = endpoints(given, secure).expect_err("no endpoint");
        assert!(error.contains("--etcd-endpoints") && error.contains(word), "{error}");
    }
}

#[test]
fn the_prefix_ends_with_one_slash() {
    for prefix in ["/x/y", "/x/y/", "/x/y//"] {
        let flags = EtcdFlags { etcd_prefix: Some(prefix.to_owned()), ..flags() };
        assert_eq!(Options::new(&flags).expect("flags").prefix, "/x/y/");
    }
    assert_eq!(Options::new(&flags()).expect("no flags").prefix, "/coreos.com/network/");
}

#[test]
fn one_of_two_flags_is_refused_by_name() {
    let path = || Some(PathBuf::from("x"));
    let text = || Some("x".to_owned());
    for (flags, given, missing) in [
        (EtcdFlags { etcd_certfile: path(), ..flags() }, "--etcd-certfile", "--etcd-keyfile"),
        (EtcdFlags { etcd_keyfile: path(), ..flags() }, "--etcd-keyfile", "--etcd-certfile"),
        (EtcdFlags { etcd_username: text(), ..flags() }, "--etcd-username", "--etcd-password"),
        (EtcdFlags { etcd_password: text(), ..flags() }, "--etcd-password", "--etcd-username"),
    ] {
        let error = Options::new(&flags).expect_err("one of two").to_string();
        assert_eq!(error, format!("{given} needs {missing} too"));
    }
}
