//! The plan from nothing for every combination of backend, pods and underlay, line by line.

use super::network::{DUAL, Network, V4, V6, far, host_gw, near, vxlan};

/// Asserts that a network's plan, on a host that has nothing of ours, prints so; sysctls of the whole host aside.
fn assert_plan(network: &Network, expected: &str) {
    let plan = network.settle(&mut network.fake()).to_string();
    let of_host = |line: &&str| line.contains("/ip_forward=") || line.contains("/all/forwarding=");
    let lines: Vec<_> = plan.lines().filter(|line| !of_host(line)).collect();
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, expected, "the plan for\n{network:?}\nis\n{}", lines.join("\n"));
}

#[test]
fn vxlan_v4_over_v4() {
    assert_plan(&vxlan(V4, V4), "@@");
}

#[test]
fn vxlan_v6_over_v6() {
    assert_plan(&vxlan(V6, V6), "@@");
}

#[test]
fn vxlan_v4_over_v6() {
    assert_plan(&vxlan(V4, V6), "@@");
}

#[test]
fn vxlan_v6_over_v4() {
    assert_plan(&vxlan(V6, V4), "@@");
}

#[test]
fn vxlan_of_both_over_both_has_two_devices() {
    assert_plan(&vxlan(DUAL, DUAL).peers([far(3)]), "@@");
}

#[test]
fn vxlan_of_both_over_v4_has_one_device() {
    assert_plan(&vxlan(DUAL, V4).peers([far(3)]), "@@");
}

#[test]
fn vxlan_of_both_over_v6_has_one_device() {
    assert_plan(&vxlan(DUAL, V6).peers([far(3)]), "@@");
}

#[test]
fn vxlan_with_every_option() {
    let options = r#""VNI": 4096, "Port": 4789, "MTU": 1400, "GBP": true, "Learning": true"#;
    let network = Network { vni: 4096, ..vxlan(V4, V4).with(options).peers([far(3)]) };
    assert_plan(&network, "@@");
}

#[test]
fn direct_routing_takes_the_plain_route_to_a_near_peer_only() {
    assert_plan(&vxlan(V4, V4).with(r#""DirectRouting": true"#), "@@");
}

#[test]
fn direct_routing_of_both_families() {
    assert_plan(&vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([near(2)]), "@@");
}

#[test]
fn host_gw_v4_over_v4() {
    assert_plan(&host_gw(V4, V4).peers([near(2), near(4)]), "@@");
}

#[test]
fn host_gw_v6_over_v6() {
    assert_plan(&host_gw(V6, V6).peers([near(2), near(4)]), "@@");
}

#[test]
fn host_gw_v4_over_v6_has_next_hops_of_the_other_family() {
    assert_plan(&host_gw(V4, V6).peers([near(2), near(4)]), "@@");
}

#[test]
fn host_gw_of_both() {
    assert_plan(&host_gw(DUAL, DUAL).peers([near(2)]), "@@");
}

#[test]
fn local_and_public_address_are_told_apart() {
    let behind_nat = Network { nat: true, ..vxlan(V4, V4).peers([far(3)]) };
    assert_eq!(behind_nat.underlay(1).public.v4, Some(super::network::address("203.0.113.1")), "peers are told so");
    assert_plan(&behind_nat, "@@");
}
