use network::net_conf::NetConf;

use super::*;

/// The kind and the sentence of the problem.
fn told(error: &StartError) -> (Kind, String) {
    let problem = error.problem();
    (problem.kind, problem.to_string())
}

#[test]
fn what_ends_the_start_is_told_with_what_to_do() {
    let conf = NetConf::parse("{").expect_err("no configuration");
    let (reason, text) = told(&NodeError::NetConf(conf).into());
    assert_eq!(reason, Kind::InvalidConfiguration);
    assert!(text.starts_with("netd cannot start on this node: the network configuration is not valid: "), "{text}");
    let node = "n1".parse().expect("a name");
    let (reason, text) = told(&StartError::Lease(StoreError::Allocate { node, source: "it is outside".into() }));
    assert_eq!(reason, Kind::WrongPodCidr);
    assert!(text.ends_with("no subnet for node n1: it is outside"), "{text}");
    let failed = std::io::Error::other("no such thing");
    assert_eq!(told(&StartError::Signals(failed)).0, Kind::CannotStart);
}
