use network::net_conf::NetConf;

use super::*;

/// Reason and text of what is told of an error.
fn told(error: &StartError) -> (&'static str, String) {
    match error.notice() {
        Notice::Warning { reason, text } => (reason, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_ends_the_start_is_told_with_what_to_do() {
    let conf = NetConf::parse("{").expect_err("no configuration");
    let (reason, text) = told(&NodeError::NetConf(conf).into());
    assert_eq!(reason, "InvalidConfiguration");
    assert!(text.starts_with("netd cannot start on this node: the network configuration is not valid: "), "{text}");
    let node = "n1".parse().expect("a name");
    let (reason, text) = told(&StartError::Lease(StoreError::Allocate { node, source: "it is outside".into() }));
    assert_eq!(reason, "WrongPodCIDR");
    assert!(text.ends_with("no subnet for node n1: it is outside"), "{text}");
    let failed = std::io::Error::other("no such thing");
    assert_eq!(told(&StartError::Signals(failed)).0, "CannotStart");
}
