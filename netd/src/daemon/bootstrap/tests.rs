use network::net_conf::NetConf;

use super::*;

/// The kind and the sentence of the problem.
fn problem(error: &StartError) -> (Kind, String) {
    let problem = error.problem();
    (problem.kind, problem.to_string())
}

#[test]
fn the_problem_of_a_failed_start_says_what_to_do() {
    let conf = NetConf::parse("{").expect_err("no configuration");
    let (kind, text) = problem(&NodeError::NetConf(conf).into());
    assert_eq!(kind, Kind::InvalidConfiguration);
    assert!(text.starts_with("netd cannot start on this node: the network configuration is not valid: "), "{text}");
    let node = "n1".parse().expect("a name");
    let (kind, text) = problem(&StartError::Lease(StoreError::Allocate { node, source: "it is outside".into() }));
    assert_eq!(kind, Kind::WrongPodCidr);
    assert!(text.ends_with("no subnet for node n1: it is outside"), "{text}");
    let failed = std::io::Error::other("no such thing");
    assert_eq!(problem(&StartError::Signals(failed)).0, Kind::CannotStart);
}
