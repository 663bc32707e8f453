//! Rows of the traffic policies, of terminating endpoints and of hints. `here` is this node, `z1` its zone.

use super::*;
use crate::model::{PortName, Protocol};
use dataplane::types::Family;

const HERE: Place<'_> = Place { node: "here", zone: Some("z1") };

fn endpoint(last: u8) -> Endpoint {
    Endpoint {
        address: [10, 180, 0, last].into(),
        is_local: false,
        ready: true,
        serving: true,
        terminating: false,
        zone_hints: Box::default(),
        node_hints: Box::default(),
    }
}

fn local(last: u8) -> Endpoint {
    Endpoint { is_local: true, ..endpoint(last) }
}

/// Terminating, and serving or not.
fn terminating(serving: bool, endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: false, serving, terminating: true, ..endpoint }
}

fn hinted(last: u8, zones: &[&str], nodes: &[&str]) -> Endpoint {
    let hints = |hints: &[&str]| hints.iter().map(|hint| Arc::from(*hint)).collect();
    Endpoint { zone_hints: hints(zones), node_hints: hints(nodes), ..endpoint(last) }
}

fn resolved(internal_policy: Policy, external_policy: Policy, endpoints: &[Endpoint], place: Place<'_>) -> Resolved {
    let port = ServicePort {
        name: PortName::new("ns1", "svc1", "", Protocol::Tcp),
        family: Family::V4,
        cluster_ip: [172, 30, 1, 1].into(),
        port: 80,
        node_port: None,
        external_ips: Vec::new(),
        load_balancer_ips: vec![[1, 2, 3, 4].into()],
        source_ranges: None,
        external_policy,
        internal_policy,
        affinity: None,
        health_check_node_port: None,
        created: None,
    };
    let address = |endpoint: &Endpoint| SocketAddr::new(endpoint.address, 80);
    let candidates: Vec<_> =
        endpoints.iter().map(|endpoint| Candidate { address: address(endpoint), endpoint }).collect();
    resolve(Arc::new(port), &candidates, place)
}

/// The last octets of the endpoints, or what else happens.
fn last(target: Target<'_>) -> String {
    let octet = |address: &SocketAddr| address.ip().to_string().rsplit('.').next().unwrap_or_default().to_owned();
    match target {
        Target::Endpoints(endpoints) => endpoints.iter().map(octet).collect::<Vec<_>>().join(" "),
        Target::Drop => "DROP".into(),
        Target::Reject => "REJECT".into(),
    }
}

/// Where packets to the cluster IP and from outside go, with an internal policy and an external one.
fn targets(internal: Policy, external: Policy, endpoints: &[Endpoint]) -> [String; 2] {
    let resolved = resolved(internal, external, endpoints, HERE);
    [last(resolved.internal()), last(resolved.external())]
}

use Policy::{Cluster, Local};

#[test]
fn internal_policy() {
    assert_eq!(targets(Cluster, Cluster, &[local(1), endpoint(2), endpoint(3)])[0], "1 2 3", "case 49");
    assert_eq!(targets(Local, Cluster, &[local(1), endpoint(2), endpoint(3)])[0], "1", "case 50, one");
    assert_eq!(targets(Local, Cluster, &[local(1), local(2), endpoint(3)])[0], "1 2", "case 50, two");
    assert_eq!(targets(Local, Cluster, &[endpoint(2), endpoint(3)]), ["DROP", "2 3"], "case 51, elsewhere");
    assert_eq!(targets(Local, Cluster, &[]), ["REJECT", "REJECT"], "case 51, nowhere");
}

#[test]
fn terminating_endpoints() {
    let (e3, e4) = (terminating(true, local(3)), terminating(false, local(4)));
    let all = [local(1), local(2), e3.clone(), e4.clone(), endpoint(5)];
    assert_eq!(targets(Cluster, Local, &all), ["1 2 5", "1 2"], "case 52");
    let some = [terminating(true, local(2)), e3.clone(), e4.clone(), endpoint(5)];
    assert_eq!(targets(Cluster, Local, &some), ["5", "2 3"], "case 53: each falls back by itself");
    assert_eq!(targets(Cluster, Local, &[terminating(true, endpoint(5))]), ["5", "DROP"], "case 54");
    for external in [Cluster, Local] {
        let dead = [e4.clone(), terminating(false, endpoint(5))];
        assert_eq!(targets(Cluster, external, &dead), ["REJECT", "REJECT"], "case 55");
        assert_eq!(targets(Cluster, external, &[]), ["REJECT", "REJECT"], "case 58");
    }
    assert_eq!(targets(Cluster, Cluster, &all), ["1 2 5", "1 2 5"], "case 56");
    let none_ready = [terminating(true, local(2)), e3, e4, terminating(true, endpoint(5))];
    assert_eq!(targets(Cluster, Cluster, &none_ready), ["2 3 5", "2 3 5"], "case 57");
}

#[test]
fn unready_endpoints_get_packets_only_where_they_are_published_as_ready() {
    let unready = Endpoint { ready: false, serving: false, ..endpoint(1) };
    assert_eq!(targets(Cluster, Cluster, &[unready])[0], "REJECT", "case 59, false");
    // An endpoint that serves, is not ready and does not terminate is no fallback.
    assert_eq!(targets(Cluster, Cluster, &[Endpoint { ready: false, ..endpoint(1) }])[0], "REJECT");
    let published = Endpoint { serving: false, terminating: true, ..endpoint(1) };
    assert_eq!(targets(Cluster, Cluster, &[published])[0], "1", "case 59, true");
}

#[test]
fn hints_for_zones() {
    let zone = |endpoints: &[Endpoint]| targets(Cluster, Cluster, endpoints)[0].clone();
    let (a, b) = (hinted(1, &["z1"], &[]), hinted(2, &["z2", "z3"], &[]));
    assert_eq!(zone(&[a.clone(), b.clone()]), "1", "case 64");
    assert_eq!(zone(&[a.clone(), b.clone(), endpoint(3)]), "1 2 3", "case 64, one without a hint");
    assert_eq!(zone(&[b.clone(), hinted(3, &["z2"], &[])]), "2 3", "case 64, none for this zone");
    let unready = Endpoint { ready: false, serving: false, ..endpoint(3) };
    assert_eq!(zone(&[a.clone(), b.clone(), unready]), "1", "the hints of an endpoint that is not ready do not matter");
    let nowhere = Place { zone: None, ..HERE };
    assert_eq!(last(resolved(Cluster, Cluster, &[a, b], nowhere).internal()), "1 2", "a node without a zone");
}

#[test]
fn hints_for_nodes_go_before_those_for_zones() {
    let one = hinted(1, &["z2"], &["here"]);
    let (two, three) = (hinted(2, &["z1"], &["n2"]), hinted(3, &["z2"], &["n3"]));
    let node = |endpoints: &[Endpoint]| targets(Cluster, Cluster, endpoints)[0].clone();
    assert_eq!(node(&[one.clone(), two.clone(), three.clone()]), "1", "case 65");
    assert_eq!(node(&[two.clone(), three.clone()]), "2", "case 65, this node's is gone: the zone's");
    assert_eq!(node(&[three.clone(), hinted(4, &["z3"], &["n4"])]), "3 4", "case 65, nor is one in the zone");
    assert_eq!(node(&[one, hinted(2, &["z1"], &[]), three]), "2", "one has no hint for nodes");
}

#[test]
fn hints_thin_neither_the_fallback_nor_the_endpoints_of_this_node() {
    let (a, b) = (hinted(1, &["z1"], &["here"]), hinted(2, &["z2"], &["n2"]));
    assert_eq!(
        targets(Cluster, Cluster, &[terminating(true, a.clone()), terminating(true, b.clone())])[0],
        "1 2",
        "case 66"
    );
    let here = Endpoint { is_local: true, ..b };
    assert_eq!(targets(Cluster, Local, &[a, here]), ["1", "2"], "case 66, Local");
}

#[test]
fn what_the_health_check_counts() {
    let ready = |endpoints: &[Endpoint]| resolved(Cluster, Local, endpoints, HERE).local_ready;
    assert_eq!(ready(&[local(1), local(2), endpoint(3)]), 2);
    assert_eq!(ready(&[terminating(true, local(1)), endpoint(3)]), 0, "only terminating ones");
}

#[test]
fn each_endpoint_that_is_left_out_has_a_reason() {
    let endpoints = [
        hinted(1, &["z1"], &[]),
        hinted(2, &["z2"], &[]),
        terminating(true, local(3)),
        terminating(false, endpoint(4)),
        Endpoint { ready: false, ..endpoint(5) },
    ];
    let candidates: Vec<_> = endpoints
        .iter()
        .map(|endpoint| Candidate { address: SocketAddr::new(endpoint.address, 80), endpoint })
        .collect();
    let parts: Vec<_> = judge(&candidates, HERE).into_iter().map(|part| (part.cluster, part.local)).collect();
    let elsewhere = Some(LeftOut::NotLocal);
    assert_eq!(
        parts,
        [
            (None, elsewhere),
            (Some(LeftOut::HintsForOtherZones), elsewhere),
            (Some(LeftOut::OthersAreReady), None),
            (Some(LeftOut::NotServing), elsewhere),
            (Some(LeftOut::NotReady), elsewhere),
        ]
    );
    let nodes = [hinted(1, &[], &["here"]), hinted(2, &[], &["n2"])];
    let candidates =
        nodes.each_ref().map(|endpoint| Candidate { address: SocketAddr::new(endpoint.address, 80), endpoint });
    assert_eq!(judge(&candidates, HERE)[1].cluster, Some(LeftOut::HintsForOtherNodes));
}
