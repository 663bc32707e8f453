//! The plan from nothing for every combination of backend, pods and underlay, line by line.

use crate::fixtures::{DUAL, Network, V4, V6, far, host_gw, near, vxlan};

/// Asserts that a network's plan, on a host that has nothing of ours, prints so; sysctls of the whole host and what is
/// there for each device and network aside.
fn assert_plan(network: &Network, expected: &str) {
    let plan = network.settle(&mut network.fake()).to_string();
    let of_each = |line: &&str| ["/ip_forward=", "/forwarding=1", "unreachable"].iter().any(|part| line.contains(part));
    let lines: Vec<_> = plan.lines().filter(|line| !of_each(line)).collect();
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, expected, "the plan for\n{network:?}\nis\n{}", lines.join("\n"));
}

#[test]
fn the_tunnels_forward_and_what_no_node_has_is_unreachable() {
    let network = vxlan(DUAL, DUAL).peers([]);
    let plan = network.settle(&mut network.fake()).to_string();
    let expected = [
        "sysctl -q -w net/ipv4/conf/flannel-v6.1/forwarding=1",
        "sysctl -q -w net/ipv4/conf/flannel.1/forwarding=1",
        "ip route add unreachable 10.244.0.0/16 proto 110 metric 4278198272",
        "ip route add unreachable fd00:10::/48 proto 110 metric 4278198272",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !plan.lines().any(|other| other == **line)).collect();
    assert!(missing.is_empty(), "{missing:?} is missing in\n{plan}");
}

#[test]
fn vxlan_v4_over_v4() {
    assert_plan(
        &vxlan(V4, V4),
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        ip address add 10.244.1.0/32 dev flannel.1
        ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:02 dev flannel.1 nud permanent
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:02 dev flannel.1 dst 192.168.1.2 self permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent
        ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_v6_over_v6() {
    assert_plan(
        &vxlan(V6, V6),
        r"
        ip link add flannel-v6.1 address 0a:00:00:00:00:01 mtu 1430 up type vxlan id 1 dev eth0 local fd00:1::1 dstport 8472 nolearning
        ip link set flannel-v6.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel-v6.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0
        ip address add fd00:10:0:1::/128 dev flannel-v6.1 nodad
        ip neighbour replace fd00:10:0:2:: lladdr 0a:00:00:00:00:02 dev flannel-v6.1 nud permanent
        ip neighbour replace fd00:10:0:3:: lladdr 0a:00:00:00:00:03 dev flannel-v6.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:02 dev flannel-v6.1 dst fd00:1::2 self permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel-v6.1 dst fd00:2::3 self permanent
        ip route add fd00:10:0:2::/64 via fd00:10:0:2:: dev flannel-v6.1 proto 110 onlink
        ip route add fd00:10:0:3::/64 via fd00:10:0:3:: dev flannel-v6.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_v4_over_v6() {
    assert_plan(
        &vxlan(V4, V6),
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1430 up type vxlan id 1 dev eth0 local fd00:1::1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        ip address add 10.244.1.0/32 dev flannel.1
        ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:02 dev flannel.1 nud permanent
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:02 dev flannel.1 dst fd00:1::2 self permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst fd00:2::3 self permanent
        ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_v6_over_v4() {
    assert_plan(
        &vxlan(V6, V4),
        r"
        ip link add flannel-v6.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel-v6.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel-v6.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0
        ip address add fd00:10:0:1::/128 dev flannel-v6.1 nodad
        ip neighbour replace fd00:10:0:2:: lladdr 0a:00:00:00:00:02 dev flannel-v6.1 nud permanent
        ip neighbour replace fd00:10:0:3:: lladdr 0a:00:00:00:00:03 dev flannel-v6.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:02 dev flannel-v6.1 dst 192.168.1.2 self permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel-v6.1 dst 192.168.2.3 self permanent
        ip route add fd00:10:0:2::/64 via fd00:10:0:2:: dev flannel-v6.1 proto 110 onlink
        ip route add fd00:10:0:3::/64 via fd00:10:0:3:: dev flannel-v6.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_of_both_over_both_has_two_devices() {
    assert_plan(
        &vxlan(DUAL, DUAL).peers([far(3)]),
        r"
        ip link add flannel-v6.1 address 0a:00:00:00:00:01 mtu 1430 up type vxlan id 1 dev eth0 local fd00:1::1 dstport 8472 nolearning
        ip link set flannel-v6.1 alias netd
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel-v6.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0
        ip address add fd00:10:0:1::/128 dev flannel-v6.1 nodad
        ip address add 10.244.1.0/32 dev flannel.1
        ip neighbour replace fd00:10:0:3:: lladdr 0a:00:00:00:00:03 dev flannel-v6.1 nud permanent
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel-v6.1 dst fd00:2::3 self permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ip route add fd00:10:0:3::/64 via fd00:10:0:3:: dev flannel-v6.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_of_both_over_v4_has_one_device() {
    assert_plan(
        &vxlan(DUAL, V4).peers([far(3)]),
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel.1/disable_ipv6=0
        ip address add 10.244.1.0/32 dev flannel.1
        ip address add fd00:10:0:1::/128 dev flannel.1 nodad
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        ip neighbour replace fd00:10:0:3:: lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ip route add fd00:10:0:3::/64 via fd00:10:0:3:: dev flannel.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_of_both_over_v6_has_one_device() {
    assert_plan(
        &vxlan(DUAL, V6).peers([far(3)]),
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1430 up type vxlan id 1 dev eth0 local fd00:1::1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel.1/disable_ipv6=0
        ip address add 10.244.1.0/32 dev flannel.1
        ip address add fd00:10:0:1::/128 dev flannel.1 nodad
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        ip neighbour replace fd00:10:0:3:: lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst fd00:2::3 self permanent
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ip route add fd00:10:0:3::/64 via fd00:10:0:3:: dev flannel.1 proto 110 onlink
        ",
    );
}

#[test]
fn vxlan_with_every_option() {
    let options = r#""VNI": 4096, "Port": 4789, "MTU": 1400, "GBP": true, "Learning": true"#;
    let network = Network { vni: 4096, ..vxlan(V4, V4).with(options).peers([far(3)]) };
    assert_plan(
        &network,
        r"
        ip link add flannel.4096 address 0a:00:00:00:00:01 mtu 1350 up type vxlan id 4096 dev eth0 local 192.168.1.1 dstport 4789 learning gbp
        ip link set flannel.4096 alias netd
        ip address add 10.244.1.0/32 dev flannel.4096
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.4096 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.4096 dst 192.168.2.3 self permanent
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.4096 proto 110 onlink
        ",
    );
}

#[test]
fn direct_routing_takes_the_plain_route_to_a_near_peer_only() {
    assert_plan(
        &vxlan(V4, V4).with(r#""DirectRouting": true"#),
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        ip address add 10.244.1.0/32 dev flannel.1
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent
        ip route add 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ",
    );
}

#[test]
fn direct_routing_of_both_families() {
    assert_plan(
        &vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([near(2)]),
        r"
        ip link add flannel-v6.1 address 0a:00:00:00:00:01 mtu 1430 up type vxlan id 1 dev eth0 local fd00:1::1 dstport 8472 nolearning
        ip link set flannel-v6.1 alias netd
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        sysctl -q -w net/ipv6/conf/flannel-v6.1/accept_ra=0
        sysctl -q -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0
        ip address add fd00:10:0:1::/128 dev flannel-v6.1 nodad
        ip address add 10.244.1.0/32 dev flannel.1
        ip route add 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110
        ip route add fd00:10:0:2::/64 via fd00:1::2 dev eth0 proto 110
        ",
    );
}

#[test]
fn host_gw_v4_over_v4() {
    assert_plan(
        &host_gw(V4, V4).peers([near(2), near(4)]),
        r"
        ip route add 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110
        ip route add 10.244.4.0/24 via 192.168.1.4 dev eth0 proto 110
        ",
    );
}

#[test]
fn host_gw_v6_over_v6() {
    assert_plan(
        &host_gw(V6, V6).peers([near(2), near(4)]),
        r"
        ip route add fd00:10:0:2::/64 via fd00:1::2 dev eth0 proto 110
        ip route add fd00:10:0:4::/64 via fd00:1::4 dev eth0 proto 110
        ",
    );
}

#[test]
fn host_gw_v4_over_v6_has_next_hops_of_the_other_family() {
    assert_plan(
        &host_gw(V4, V6).peers([near(2), near(4)]),
        r"
        ip route add 10.244.2.0/24 via inet6 fd00:1::2 dev eth0 proto 110
        ip route add 10.244.4.0/24 via inet6 fd00:1::4 dev eth0 proto 110
        ",
    );
}

#[test]
fn host_gw_of_both() {
    assert_plan(
        &host_gw(DUAL, DUAL).peers([near(2)]),
        r"
        ip route add 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110
        ip route add fd00:10:0:2::/64 via fd00:1::2 dev eth0 proto 110
        ",
    );
}

#[test]
fn local_and_public_address_are_told_apart() {
    let behind_nat = Network { nat: true, ..vxlan(V4, V4).peers([far(3)]) };
    assert_eq!(behind_nat.underlay(1).public.v4, Some(crate::fixtures::address("203.0.113.1")), "it is published");
    assert_plan(
        &behind_nat,
        r"
        ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport 8472 nolearning
        ip link set flannel.1 alias netd
        ip address add 10.244.1.0/32 dev flannel.1
        ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent
        ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink
        ",
    );
}
