use network::net_conf::NetConf;

use super::*;

/// Reason and text of an error's notice.
fn notice(error: &StartError) -> (&'static str, String) {
    match error.notice() {
        Notice::Warning { reason, text } => (reason, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_notice_of_a_failed_start_says_what_to_do() {
    let conf = NetConf::parse("{").expect_err("no configuration");
    let (reason, text) = notice(&NodeError::NetConf(conf).into());
    assert_eq!(reason, "InvalidConfiguration");
    assert!(text.starts_with("netd cannot start on this node: the network configuration is not valid: "), "{text}");
    let node = "n1".parse().expect("a name");
    let (reason, text) = notice(&StartError::Lease(StoreError::Allocate { node, source: "it is outside".into() }));
    assert_eq!(reason, "WrongPodCIDR");
    assert!(text.ends_with("no subnet for node n1: it is outside"), "{text}");
    let failed = std::io::Error::other("no such thing");
    assert_eq!(notice(&StartError::Signals(failed)).0, "CannotStart");
}
