//! Single changes and the plans that follow, line by line, on the kernel in memory.

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::link::{Kind, Link, LinkChange, Tunnel};
use dataplane::op::{DeviceRoute, Op};
use dataplane::route::RouteKind;
use dataplane::types::RouteProtocol;

use crate::backend::vxlan::TEXTS;
use crate::fixtures::{DUAL, Network, Peer, V4, V6, address, far, host_gw, mac, name, near, prefix, snapshot, vxlan};
use crate::plan::Conflict;

/// The plan of a network in force on a kernel, as lines.
fn lines(network: &Network, fake: &mut Fake) -> Vec<String> {
    network.set_underlay(fake);
    network.settle(fake).ops.iter().map(ToString::to_string).collect()
}

/// A kernel on which the network is in force.
fn settled(network: &Network) -> Fake {
    let mut fake = network.fake();
    network.settle(&mut fake);
    fake
}

fn link<'f>(fake: &'f mut Fake, device: &str) -> &'f mut Link {
    fake.links.iter_mut().find(|link| link.name == name(device)).expect("the link")
}

#[test]
fn a_peer_comes_with_its_neighbour_first_and_its_route_last() {
    let network = vxlan(V4, V4).peers([near(2)]);
    let plan = lines(&network.clone().peers([near(2), far(3)]), &mut settled(&network));
    let expected = [
        "ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent",
        "bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent",
        "ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink",
    ];
    assert_eq!(plan, expected, "no packet finds a route that leads nowhere");
}

#[test]
fn a_peer_goes_with_its_route_first_and_nothing_else_goes() {
    let network = vxlan(V4, V4).peers([near(2), far(3)]);
    let plan = lines(&network.clone().peers([near(2)]), &mut settled(&network));
    let expected = [
        "ip route delete 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink",
        "bridge fdb delete 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self",
        "ip neighbour delete 10.244.3.0 dev flannel.1",
    ];
    assert_eq!(plan, expected, "in the reverse order");
}

#[test]
fn a_peer_with_another_mac_and_then_another_address_has_one_forwarding_entry() {
    let network = |peer: Peer| vxlan(V4, V4).peers([peer]);
    let mut fake = settled(&network(far(3)));
    let other_mac = Peer { mac: 33, ..far(3) };
    let expected = [
        "ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:21 dev flannel.1 nud permanent",
        "bridge fdb replace 0a:00:00:00:00:21 dev flannel.1 dst 192.168.2.3 self permanent",
        "bridge fdb delete 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self",
    ];
    assert_eq!(lines(&network(other_mac.clone()), &mut fake), expected, "the old address goes");
    let moved = Peer { host: 44, ..other_mac };
    let expected = ["bridge fdb replace 0a:00:00:00:00:21 dev flannel.1 dst 192.168.2.44 self permanent"];
    assert_eq!(lines(&network(moved), &mut fake), expected, "the tunnel end is replaced");
    assert_eq!(fake.fdb.len(), 1, "one entry is left");
}

#[test]
fn a_peer_that_moves_behind_the_router_gets_the_tunnel_and_back() {
    let network = |peer: Peer| vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([peer]);
    let mut fake = settled(&network(near(2)));
    let expected = [
        "ip neighbour replace fd00:10:0:2:: lladdr 0a:00:00:00:00:02 dev flannel-v6.1 nud permanent",
        "ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:02 dev flannel.1 nud permanent",
        "bridge fdb replace 0a:00:00:00:00:02 dev flannel-v6.1 dst fd00:2::2 self permanent",
        "bridge fdb replace 0a:00:00:00:00:02 dev flannel.1 dst 192.168.2.2 self permanent",
        "ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink",
        // The kernel takes no IPv6 next hop to which another route leads elsewhere.
        "ip route replace fd00:10:0:2::/128 dev flannel-v6.1 proto 110",
        "ip route replace fd00:10:0:2::/64 via fd00:10:0:2:: dev flannel-v6.1 proto 110 onlink",
        "ip route delete fd00:10:0:2::/128 dev flannel-v6.1 proto 110",
    ];
    assert_eq!(lines(&network(far(2)), &mut fake), expected, "the tunnel stands before the route leads there");
    let expected = [
        "ip route replace 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110",
        "ip route replace fd00:10:0:2::/64 via fd00:1::2 dev eth0 proto 110",
        "bridge fdb delete 0a:00:00:00:00:02 dev flannel-v6.1 dst fd00:2::2 self",
        "bridge fdb delete 0a:00:00:00:00:02 dev flannel.1 dst 192.168.2.2 self",
        "ip neighbour delete fd00:10:0:2:: dev flannel-v6.1",
        "ip neighbour delete 10.244.2.0 dev flannel.1",
    ];
    let mut back = lines(&network(near(2)), &mut fake);
    let mut expected: Vec<_> = expected.map(str::to_owned).into();
    assert_eq!(back[..2], expected[..2], "the plain routes come first");
    back.sort();
    expected.sort();
    assert_eq!(back, expected, "nothing of the tunnel is left over");
}

#[test]
fn a_switch_to_host_gw_takes_the_device_last_and_with_all_on_it() {
    let network = vxlan(V4, V4).peers([near(2), near(4)]);
    let plan = lines(&host_gw(V4, V4).peers([near(2), near(4)]), &mut settled(&network));
    let expected = [
        "ip route replace 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110",
        "ip route replace 10.244.4.0/24 via 192.168.1.4 dev eth0 proto 110",
        "ip link delete flannel.1",
    ];
    assert_eq!(plan, expected, "the plain routes have replaced the tunnel's");
}

#[test]
fn a_compatible_device_of_others_is_adopted() {
    let network = vxlan(V4, V4);
    let mut fake = settled(&network);
    let index = link(&mut fake, "flannel.1").index;
    link(&mut fake, "flannel.1").alias = None;
    assert_eq!(lines(&network, &mut fake), ["ip link set flannel.1 alias netd"], "nothing but the mark is new");
    assert_eq!(link(&mut fake, "flannel.1").index, index, "it is the same device");
}

#[test]
fn what_flannel_left_on_its_device_becomes_ours() {
    let network = vxlan(V4, V4).peers([near(2)]);
    let mut fake = settled(&network);
    link(&mut fake, "flannel.1").alias = None;
    let boot = RouteProtocol(3);
    for route in fake.routes.iter_mut().filter(|route| route.index == 2) {
        route.protocol = boot;
    }
    fake.routes.push(dataplane::route::Route {
        destination: prefix("10.244.9.0/24"),
        gateway: Some(address("10.244.9.0")),
        index: 2,
        onlink: true,
        protocol: boot,
        metric: 0,
        kind: RouteKind::Unicast,
    });
    let expected = [
        "ip link set flannel.1 alias netd",
        "ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink",
        "ip route delete 10.244.9.0/24 via 10.244.9.0 dev flannel.1 proto 3 onlink",
    ];
    assert_eq!(lines(&network, &mut fake), expected, "a wanted route is taken over, a stale one goes");
}

#[test]
fn an_incompatible_device_is_made_anew_with_all_on_it() {
    let network = vxlan(V4, V4).peers([far(3)]);
    let changes: [fn(&mut dataplane::link::Vxlan); 6] = [
        |vxlan| vxlan.port = 4789,
        |vxlan| vxlan.local = Some(address("192.168.1.9")),
        |vxlan| vxlan.gbp = true,
        |vxlan| vxlan.learning = true,
        |vxlan| vxlan.underlay = Some(9),
        |vxlan| vxlan.foreign = true,
    ];
    for change in changes {
        let mut fake = settled(&network);
        let Kind::Tunnel(Tunnel::Vxlan(vxlan)) = &mut link(&mut fake, "flannel.1").kind else {
            panic!("flannel.1 is a VXLAN device")
        };
        change(vxlan);
        let expected = [
            "ip link delete flannel.1",
            "ip link add flannel.1 address 0a:00:00:00:00:01 mtu 1450 up type vxlan id 1 dev eth0 local 192.168.1.1 dstport \
             8472 nolearning",
            "ip link set flannel.1 alias netd",
            "sysctl -q -w net/ipv4/conf/flannel.1/forwarding=1",
            "ip address add 10.244.1.0/32 dev flannel.1",
            "ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent",
            "bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3 self permanent",
            "ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 proto 110 onlink",
        ];
        assert_eq!(lines(&network, &mut fake), expected, "it is made with everything on it");
    }
}

#[test]
fn another_hardware_address_costs_the_neighbours() {
    let network = vxlan(V4, V4).peers([far(3)]);
    let mut fake = settled(&network);
    let change = LinkChange { mac: Some(mac(99)), ..LinkChange::default() };
    fake.apply(&[Op::SetLink { name: name("flannel.1"), change }]);
    link(&mut fake, "flannel.1").mac = Some(mac(99));
    let expected = [
        "ip link set flannel.1 address 0a:00:00:00:00:01",
        "ip neighbour replace 10.244.3.0 lladdr 0a:00:00:00:00:03 dev flannel.1 nud permanent",
    ];
    assert_eq!(lines(&network, &mut fake), expected, "they are put again");
}

#[test]
fn devices_that_change_places_go_before_either_is_made() {
    let mut fake = settled(&vxlan(DUAL, V6).peers([]));
    let plan = lines(&vxlan(DUAL, DUAL).peers([]), &mut fake);
    let of_links: Vec<_> = plan.iter().map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" ")).collect();
    let expected =
        ["ip link delete flannel.1", "ip link add flannel-v6.1", "ip link set flannel-v6.1", "ip link add flannel.1"];
    assert_eq!(of_links[..4], expected, "flannel.1 has had the place of flannel-v6.1");
}

#[test]
fn a_device_of_another_kind_is_reported_and_left_alone() {
    let network = vxlan(V4, V4);
    let mut fake = network.fake();
    let index = fake.add_link(&name("flannel.1"), 1500);
    let theirs = DeviceRoute {
        destination: prefix("10.244.9.0/24"),
        gateway: None,
        device: name("flannel.1"),
        onlink: false,
        protocol: RouteProtocol(4),
        metric: 0,
        kind: RouteKind::Unicast,
    };
    fake.routes.push(theirs.with_index(index));
    fake.apply(&[Op::AddAddress(dataplane::op::DeviceAddress {
        device: name("flannel.1"),
        address: address("10.9.9.9"),
        prefix_len: 24,
    })]);
    let before = snapshot(&fake);
    let (plan, _) = network.reconcile(&mut fake);
    assert_eq!(plan.conflicts, [Conflict::Name { name: name("flannel.1"), texts: TEXTS }], "it is reported");
    fake.routes.retain(|route| route.kind.is_unicast());
    assert_eq!(snapshot(&fake), before, "it is left alone with all that is on it");
}

#[test]
fn a_tunnel_of_others_with_our_vni_and_port_is_reported_and_left_alone() {
    let network = vxlan(V4, V4);
    for local in [Some(address("192.168.1.77")), None] {
        let mut fake = settled(&network.clone().peers([]));
        let theirs = link(&mut fake, "flannel.1");
        (theirs.name, theirs.alias) = (name("theirs"), None);
        let Kind::Tunnel(Tunnel::Vxlan(vxlan)) = &mut theirs.kind else { panic!("it is a VXLAN device") };
        vxlan.local = local;
        let before = snapshot(&fake);
        let (plan, _) = network.reconcile(&mut fake);
        let expected = Conflict::Tunnel { name: name("flannel.1"), other: name("theirs"), texts: TEXTS };
        assert_eq!(plan.conflicts, [expected], "it is reported");
        assert_eq!(
            plan.conflicts[0].to_string(),
            "VXLAN device flannel.1 cannot be made, since theirs has the same VNI and port: ip link delete theirs, or choose \
             another Backend.VNI or Backend.Port"
        );
        assert_eq!(snapshot(&fake), before, "nothing is made or removed");
    }
}

#[test]
fn a_new_port_that_others_have_costs_nothing_of_what_works() {
    let network = vxlan(V4, V4);
    let mut fake = settled(&network);
    let mut theirs = link(&mut fake, "flannel.1").clone();
    (theirs.index, theirs.name, theirs.alias) = (9, name("theirs"), None);
    let Kind::Tunnel(Tunnel::Vxlan(vxlan)) = &mut theirs.kind else { panic!("it is a VXLAN device") };
    vxlan.port = 4789;
    fake.links.push(theirs);
    let before = snapshot(&fake);
    let (plan, _) = network.with(r#""Port": 4789"#).reconcile(&mut fake);
    assert_eq!(plan.conflicts.len(), 1, "it is reported");
    assert_eq!(snapshot(&fake), before, "the device in use stays until the way is free");
}

#[test]
fn a_device_of_the_other_family_with_our_vni_is_no_conflict() {
    let network = vxlan(V4, V4);
    let mut fake = network.fake();
    let mut theirs = link(&mut settled(&vxlan(V6, V6)), "flannel-v6.1").clone();
    (theirs.name, theirs.alias) = (name("theirs"), None);
    fake.links.push(theirs);
    network.settle(&mut fake);
}

#[test]
fn a_foreign_route_to_our_destination_is_reported_with_the_way_out() {
    let network = vxlan(V4, V4).peers([near(2)]);
    let mut fake = network.fake();
    let theirs = DeviceRoute {
        destination: prefix("10.244.2.0/24"),
        gateway: Some(address("192.168.1.254")),
        device: name("eth0"),
        onlink: false,
        protocol: RouteProtocol(4),
        metric: 0,
        kind: RouteKind::Unicast,
    };
    fake.routes.push(theirs.with_index(1));
    let (plan, failed) = network.reconcile(&mut fake);
    assert!(failed.is_empty(), "nothing is tried in vain");
    assert_eq!(
        plan.conflicts[0].to_string(),
        "route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink cannot be added, since another one is there that \
         is not netd's: ip route delete 10.244.2.0/24 via 192.168.1.254 dev eth0 proto 4"
    );
    assert!(plan.to_string().starts_with("# route 10.244.2.0/24 "), "a printed plan has it as a comment");
}

#[test]
fn a_gateway_that_changes_gives_one_route_to_the_new_one() {
    for (pods, expected) in [
        (V4, "ip route replace 10.244.2.0/24 via 192.168.1.9 dev eth0 proto 110"),
        (V6, "ip route replace fd00:10:0:2::/64 via fd00:1::9 dev eth0 proto 110"),
    ] {
        let mut fake = settled(&host_gw(pods, pods).peers([near(2)]));
        let moved = host_gw(pods, pods).peers([Peer { host: 9, ..near(2) }]);
        assert_eq!(lines(&moved, &mut fake), [expected], "the route is replaced in its place");
    }
}

#[test]
fn a_peer_that_left_while_nobody_watched_is_purged_and_strangers_are_kept() {
    let network = vxlan(V4, V4).peers([near(2)]);
    let mut fake = settled(&network);
    let stranger = DeviceRoute {
        destination: prefix("10.9.0.0/16"),
        gateway: Some(address("192.168.1.2")),
        device: name("eth0"),
        onlink: false,
        protocol: RouteProtocol(4),
        metric: 0,
        kind: RouteKind::Unicast,
    };
    fake.routes.push(stranger.with_index(1));
    lines(&network.peers([]), &mut fake);
    assert!(fake.fdb.is_empty() && fake.neighbours.is_empty(), "nothing of the peer is left");
    assert!(fake.routes.contains(&stranger.with_index(1)), "the stranger's route is kept");
}
