//! What a plan does about the host itself: its sysctls, and what is left of networks that were.

use dataplane::op::DeviceRoute;
use dataplane::route::RouteKind;
use dataplane::types::{Family, PerFamily, RouteProtocol};

use crate::fixtures::{DUAL, Network, V4, V6, address, host_gw, name, near, prefix, vxlan};
use crate::observe;
use crate::overlay::PROTOCOL;
use crate::plan::Plan;

const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const ACCEPT_RA: &str = "net/ipv6/conf/eth0/accept_ra";

/// The sysctls of the host that a plan sets, on a host with these.
fn sysctls_set(network: &Network, there: &[(&str, &str)]) -> Vec<String> {
    let mut fake = network.fake();
    fake.sysctls = there.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let ops = network.settle(&mut fake).ops;
    ops.iter().map(ToString::to_string).filter(|op| op.starts_with("sysctl") && !op.contains("flannel")).collect()
}

#[test]
fn a_host_that_begins_to_forward_goes_on_to_take_router_advertisements() {
    let expected = ["sysctl -q -w net/ipv6/conf/eth0/accept_ra=2", "sysctl -q -w net/ipv6/conf/all/forwarding=1"];
    for network in [vxlan(V6, V6), vxlan(V6, V4), host_gw(V6, V6)] {
        let set = sysctls_set(&network, &[(FORWARDING, "0"), (ACCEPT_RA, "1")]);
        assert_eq!(set, expected, "it takes them before it forwards");
    }
}

#[test]
fn what_is_said_of_router_advertisements_otherwise_is_left_alone() {
    for value in ["0", "2"] {
        let set = sysctls_set(&vxlan(V6, V6), &[(FORWARDING, "0"), (ACCEPT_RA, value)]);
        assert_eq!(set, expected_forwarding(), "{value} is the operator's");
    }
    assert_eq!(sysctls_set(&vxlan(V6, V6), &[(FORWARDING, "0")]), expected_forwarding(), "a kernel without it");
    let set = sysctls_set(&vxlan(V6, V6), &[(FORWARDING, "1"), (ACCEPT_RA, "1")]);
    assert_eq!(set, [""; 0], "a host that forwarded before is left as it was");
    let set = sysctls_set(&vxlan(V4, DUAL), &[(FORWARDING, "0"), (ACCEPT_RA, "1")]);
    assert_eq!(set, ["sysctl -q -w net/ipv4/ip_forward=1"], "IPv4 pods need nothing of IPv6");
}

fn expected_forwarding() -> [&'static str; 1] {
    ["sysctl -q -w net/ipv6/conf/all/forwarding=1"]
}

#[test]
fn routes_of_ours_into_a_network_that_was_left_go_and_others_stay() {
    let network = host_gw(DUAL, DUAL).peers([near(2)]);
    let mut fake = network.fake();
    network.settle(&mut fake);
    let route = |destination: &str, protocol| {
        let destination = prefix(destination);
        let family = destination.family();
        let gateway = Some(address(if family == Family::V4 { "192.168.1.2" } else { "fd00:1::2" }));
        let metric = dataplane::route::Route::default_metric(family);
        DeviceRoute {
            destination,
            gateway,
            device: name("eth0"),
            onlink: false,
            protocol,
            metric,
            kind: RouteKind::Unicast,
        }
    };
    let left = [route("10.99.2.0/24", PROTOCOL), route("fd00:99:0:2::/64", PROTOCOL)];
    let others = [route("10.99.3.0/24", RouteProtocol(4)), route("10.98.2.0/24", PROTOCOL)];
    fake.routes.extend(left.iter().chain(&others).map(|route| route.with_index(1)));
    assert!(network.plan(&mut fake).is_empty(), "without a memory of the networks, none is known as ours");

    let mut identity = network.identity();
    identity.former = PerFamily { v4: Some(prefix("10.99.0.0/16")), v6: Some(prefix("fd00:99::/48")) };
    let host = observe::host(&mut fake, &identity).expect("a readable kernel");
    let desired = network.outcome_on(&host).expect("a network that can be carried").desired;
    let observed = observe::observed(&mut fake, host, &identity, &desired).expect("a readable kernel");
    let plan = Plan::diff(&observed, &desired, &identity).to_string();
    let expected = left.map(|route| format!("ip route delete {route}\n"));
    assert_eq!(plan, expected.concat(), "those that lead into them go, and nothing else");
}
