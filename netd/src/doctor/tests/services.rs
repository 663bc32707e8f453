//! Checks of Services.

use network::fixtures::{V4, vxlan};
use proxy::listing::{EndpointListing, Listing, PortListing};

use super::super::services::judge;
use super::*;

/// A Service with endpoints at these addresses, each with the reason why it is left out.
fn service(name: &str, endpoints: &[(&str, Option<&str>)]) -> PortListing {
    let endpoint = |(address, why): &(&str, Option<&str>)| EndpointListing {
        address: address.parse().expect("an address"),
        local: false,
        left_out_internally: why.map(str::to_owned),
        left_out_externally: why.map(str::to_owned),
        traffic: None,
    };
    PortListing {
        service: name.to_owned(),
        protocol: "TCP".to_owned(),
        family: "IPv4".to_owned(),
        addresses: Vec::new(),
        node_port: None,
        loopback: None,
        internal_traffic_policy: "Cluster".to_owned(),
        external_traffic_policy: "Cluster".to_owned(),
        affinity_seconds: None,
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

fn facts(services: Vec<PortListing>) -> Facts {
    let mut facts = well(&vxlan(V4, V4));
    let listing = Listing { node: "n1".to_owned(), listed: true, programmed: true, services, problems: Vec::new() };
    facts.kernel.proxy = ProxyFacts { mode: ProxyMode::On, listing: Some(listing), has_kube_proxy_rules: false };
    facts
}

#[test]
fn a_service_without_an_endpoint_is_named() {
    let (ready, late) = (("203.0.113.1:80", None), ("203.0.113.2:80", Some("is not ready")));
    let facts = facts(vec![service("a/ok:http", &[ready, late]), service("a/late", &[late]), service("a/none", &[])]);
    let found: Vec<_> = judge(&facts).into_iter().map(|finding| (finding.subject, finding.what)).collect();
    let late = "none of its 1 endpoints takes part: 203.0.113.2:80 is not ready".to_owned();
    let none = "it has no endpoints, so that its clients are refused".to_owned();
    assert_eq!(found, [("a/late".to_owned(), late), ("a/none".to_owned(), none)]);
}

#[test]
fn an_endpoint_of_the_pod_network_without_a_route_is_named_once() {
    let mut facts = facts(Vec::new());
    let network = *facts.node.identity.networks.get(dataplane::types::Family::V4).expect("an IPv4 network");
    let lost = address(&network.nth(network.last() - network.first() - 1).expect("an address").to_string());
    let peer = facts.peers().next().and_then(|(_, lease)| lease.subnets.iter().next()?.1.nth(9)).expect("a peer");
    let (lost, there) = (format!("{lost}:80"), format!("{peer}:80"));
    let listing = facts.kernel.proxy.listing.as_mut().expect("a listing");
    listing.services = vec![service("a/b", &[(&lost, None), (&there, None)]), service("a/c", &[(&lost, None)])];
    let found: Vec<_> = judge(&facts).into_iter().map(|finding| (finding.subject, finding.verdict)).collect();
    assert_eq!(found, [(lost.trim_end_matches(":80").to_owned(), Verdict::Fault)]);
}

#[test]
fn a_proxy_that_should_run_is_missed() {
    let mut facts = facts(Vec::new());
    assert!(judge(&facts).is_empty(), "nothing is wrong");
    facts.kernel.proxy.has_kube_proxy_rules = true;
    assert_eq!(findings_of(judge, &facts)[0].0, "kube-proxy", "another's rules stand beside");
    facts.kernel.proxy.listing = None;
    assert_eq!(findings_of(judge, &facts)[0].1, Verdict::Fault, "it should run");
    for mode in [ProxyMode::Auto, ProxyMode::Off] {
        facts.kernel.proxy.mode = mode;
        assert_eq!(findings_of(judge, &facts)[0].1, Verdict::Ok, "kube-proxy has the Services");
    }
}
