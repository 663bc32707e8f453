use super::*;

#[test]
fn whatever_the_prefix_an_annotation_is_kept_if_it_could_be_one_of_these() {
    let keys = Keys::new("org.com/9".parse().expect("a prefix"));
    assert!(keys.written().all(|key| could_be(&key)));
    for key in ["flannel.alpha.coreos.com/public-ip-overwrite", "a.b/c-node-public-ipv6", "a.b/netd-sends"] {
        assert!(could_be(key), "{key}");
    }
    for key in ["public-ip", "a.b/public-ip.", "a.b/cpublic-ip", "node.alpha.kubernetes.io/ttl", ""] {
        assert!(!could_be(key), "{key}");
    }
}
