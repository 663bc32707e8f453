use super::*;

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
        assert_eq!(Keys::new(prefix).expect(prefix).backend(), key);
    }
    for prefix in ["org", "org/", "org/prefix", "org.COM", "org.com/PREFIX", "", "org..com", "org.com/a b"] {
        assert_eq!(Keys::new(prefix), Err(PrefixError::Format), "{prefix}");
    }
    assert_eq!(Keys::new("a.b/c/d"), Err(PrefixError::Slashes));
}

#[test]
fn whatever_the_prefix_an_annotation_is_kept_if_it_could_be_one_of_these() {
    let keys = Keys::new("org.com/9").expect("prefix");
    assert!(keys.written().all(|key| could_be(&key)));
    for key in ["flannel.alpha.coreos.com/public-ip-overwrite", "a.b/c-node-public-ipv6", "a.b/netd-sends"] {
        assert!(could_be(key), "{key}");
    }
    for key in ["public-ip", "a.b/public-ip.", "a.b/cpublic-ip", "node.alpha.kubernetes.io/ttl", ""] {
        assert!(!could_be(key), "{key}");
    }
}
