//! What cannot be carried is reported, per peer, and stops nothing else.

use crate::fixtures::{DUAL, Network, Peer, V4, V6, far, host_gw, name, near, node_name, vxlan};
use crate::model::BackendType;
use dataplane::types::Family;

/// What is reported of a network's peers, a line each.
fn reported(network: &Network) -> Vec<String> {
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    outcome.unreachable.iter().map(|((node, family), why)| format!("{node} {family}: {why}")).collect()
}

#[test]
fn each_peer_that_cannot_be_reached_is_told_and_the_others_are_reached() {
    let network = vxlan(V4, V4).peers([
        near(2),
        Peer { backend: Some(BackendType::HostGw), ..near(3) },
        Peer { vni: Some(7), ..near(4) },
        Peer { vtep: false, ..near(5) },
        Peer { public: V6, ..near(6) },
        Peer { backend: Some(BackendType::Other("wireguard".to_owned())), ..far(7) },
    ]);
    let expected = [
        "node-3 IPv4: it runs backend host-gw, this node vxlan: set one Backend.Type for all nodes",
        "node-4 IPv4: its VNI is 7, this node's 1: set one VNI for all nodes",
        "node-5 IPv4: it has published no VXLAN device for IPv4 pods",
        "node-6 IPv4: it has published no IPv4 address, which this node's tunnel needs",
        "node-7 IPv4: it runs backend wireguard, this node vxlan: set one Backend.Type for all nodes",
    ];
    assert_eq!(reported(&network), expected, "each is reported with what is wrong");
    let plan = network.settle(&mut network.fake());
    let routes: Vec<_> =
        plan.ops.iter().map(ToString::to_string).filter(|op| op.starts_with("ip route add 10.")).collect();
    assert_eq!(
        routes,
        ["ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink"],
        "node 2 is reached"
    );
}

#[test]
fn plain_routes_need_one_link() {
    let expected = [
        "node-3 IPv4: no address of it is on-link (192.168.2.3, fd00:2::3) and host-gw needs that: put both on one segment \
         or use vxlan",
    ];
    assert_eq!(reported(&host_gw(V4, DUAL)), expected, "the peer behind the router is reported");
}

#[test]
fn no_plain_route_leads_from_ipv6_to_an_ipv4_next_hop() {
    let network = host_gw(V6, V4).peers([Peer { public: V4, ..near(2) }]);
    let expected = "node-2 IPv6: IPv6 pods cannot be reached over its IPv4 address with plain routes: give nodes IPv6 \
                    addresses or use vxlan";
    assert_eq!(reported(&network), [expected], "the way out is reported");
}

#[test]
fn direct_routing_needs_no_tunnel_end_and_no_vni() {
    let network = vxlan(V4, V4).with(r#""DirectRouting": true"#).peers([
        Peer { vtep: false, ..near(2) },
        Peer { vni: Some(7), ..near(3) },
        Peer { vtep: false, ..far(4) },
    ]);
    assert_eq!(
        reported(&network),
        ["node-4 IPv4: it has published no VXLAN device for IPv4 pods"],
        "only the far one is reported"
    );
}

#[test]
fn a_peer_is_reached_by_one_family_and_told_for_the_other() {
    let network = vxlan(DUAL, DUAL).peers([Peer { public: V6, ..far(2) }]);
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    let endpoint = crate::fixtures::address("fd00:2::2");
    let way = outcome.peer_routes[&(node_name(2), Family::V6)];
    assert!(!way.is_direct() && way.endpoint == endpoint, "its IPv6 pods are reached: {way:?}");
    assert!(outcome.unreachable.contains_key(&(node_name(2), Family::V4)), "its IPv4 pods are reported");
}

#[test]
fn an_mtu_that_leaves_too_little_is_an_error_with_a_remedy() {
    let small = Network { mtu: 1329, ..vxlan(V6, V4) };
    let error = small.outcome(&mut small.fake()).expect_err("too small an MTU");
    assert_eq!(
        error.to_string(),
        "eth0 carries packets of 1329 bytes, which leaves IPv6 pods too little after VXLAN's 50: raise Backend.MTU or the \
         interface's MTU to at least 1330"
    );
    assert!(Network { mtu: 1330, ..small }.outcome(&mut vxlan(V6, V4).fake()).is_ok(), "one byte more is enough");
}

#[test]
fn a_vni_that_makes_too_long_a_name_is_an_error_with_a_remedy() {
    let network = vxlan(V6, V6).vni(100_000);
    let error = network.outcome(&mut network.fake()).expect_err("too long a name");
    assert_eq!(
        error.to_string(),
        "VNI 100000 gives the device a name of more than 15 bytes: choose a VNI below 100000"
    );
    let longest = vxlan(V4, V4).vni(1_000_000).outcome(&mut vxlan(V4, V4).fake()).expect("a name of 15 bytes");
    assert!(longest.desired.devices.contains_key(&name("flannel.1000000")), "IPv4's name may have 7 digits");
}

#[test]
fn the_mtu_is_what_the_tunnel_leaves() {
    let mtu = |network: &Network| {
        let devices = network.outcome(&mut network.fake()).expect("a network that can be carried").desired.devices;
        devices.values().map(|device| device.mtu.get()).collect::<Vec<_>>()
    };
    assert_eq!(mtu(&vxlan(V4, V4)), [1450], "IPv4's headers take 50 bytes");
    assert_eq!(mtu(&vxlan(V4, V6)), [1430], "IPv6's take 70, whatever the pods have");
    assert_eq!(mtu(&vxlan(V6, V6)), [1430]);
    assert_eq!(mtu(&vxlan(DUAL, DUAL)), [1430, 1450], "each device has its own");
    assert_eq!(mtu(&vxlan(V4, V4).with(r#""MTU": 1400"#)), [1350], "Backend.MTU is that of the underlay");
    assert_eq!(mtu(&vxlan(V4, V4).with(r#""MTU": 9000"#)), [1450], "and no more than the interface has");
    assert_eq!(mtu(&Network { mtu: 9000, ..vxlan(V4, V4) }), [8950], "a large one is used");
}
