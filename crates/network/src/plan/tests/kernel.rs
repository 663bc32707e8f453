//! Plans on the running kernel: it takes every op in the order in which it comes, and one run is enough.

use std::ffi::OsString;
use std::net::SocketAddrV6;
use std::os::fd::AsRawFd;
use std::process::Command;

use dataplane::kernel::{Kernel, Linux};
use dataplane::netns::scratch;
use dataplane::types::{Family, PerFamily};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, socket, sockopt,
};

use crate::fixtures::sh;
use crate::fixtures::{DUAL, Network, Peer, V4, V6, far, host_gw, near, vxlan};
use crate::overlay::masquerade::Ports;

/// Runs `body` in a namespace with eth0, as the network has it.
fn on_a_node(underlay: PerFamily<()>, body: impl FnOnce(&mut Linux) + Send) {
    scratch(|| {
        sh("ip link set lo up; ip link add eth0 up type veth peer name wire; ip link set wire up");
        for family in underlay.families() {
            sh(match family {
                Family::V4 => "ip address add 192.168.1.1/24 dev eth0; ip route add default via 192.168.1.254",
                Family::V6 => {
                    "ip address add fd00:1::1/64 dev eth0 nodad; ip route add default via fd00:1::fe dev eth0"
                }
            });
        }
        body(&mut Linux::open().expect("netlink sockets"));
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

/// Networks of every backend and family of pods over an underlay.
fn networks(underlay: PerFamily<()>) -> Vec<Network> {
    let mut networks = Vec::new();
    for pods in [V4, V6, DUAL] {
        networks.extend([
            vxlan(pods, underlay),
            vxlan(pods, underlay).with(r#""DirectRouting": true"#),
            vxlan(pods, underlay).with(r#""Port": 4789, "GBP": true, "Learning": true, "MTU": 1400"#),
            vxlan(pods, underlay).vni(7).peers([far(2), near(4), far(5)]),
            host_gw(pods, underlay),
        ]);
    }
    for network in &mut networks {
        network.masquerade = Some(Ports::FullyRandom);
        network.forward_rules = true;
    }
    networks
}

fn each_after_each(underlay: PerFamily<()>) {
    let networks = networks(underlay);
    on_a_node(underlay, |kernel| {
        for first in &networks {
            for second in &networks {
                first.settle(kernel);
                second.settle(kernel);
            }
        }
    });
}

#[test]
fn every_network_follows_every_other_over_ipv4() {
    each_after_each(V4);
}

#[test]
fn every_network_follows_every_other_over_ipv6() {
    each_after_each(V6);
}

#[test]
fn every_network_follows_every_other_over_both() {
    each_after_each(DUAL);
}

#[test]
fn one_run_heals_every_injury() {
    let injuries = [
        "ip link set flannel.1 down",
        "ip link set flannel.1 down; ip link set flannel.1 up",
        "ip link set flannel.1 address 0a:00:00:00:00:99",
        "ip link set flannel.1 mtu 1280",
        "ip link set flannel.1 mtu 1000",
        "ip link set flannel.1 alias other",
        "ip link delete flannel.1",
        "ip link delete flannel.1; ip link add flannel.1 up type vxlan id 1 dstport 8472 local 192.168.1.1 dev eth0",
        "ip address flush dev flannel.1",
        "ip address add 10.244.1.0/16 dev flannel.1; ip address delete 10.244.1.0/32 dev flannel.1",
        "ip address add 10.244.9.0/32 dev flannel.1; ip address add fd00:10:0:9::/128 dev flannel-v6.1",
        "ip address replace fd00:10:0:1::/128 dev flannel-v6.1; ip address delete fd00:10:0:1::/128 dev flannel-v6.1; \
         ip address add fd00:10:0:1::/64 dev flannel-v6.1 nodad",
        "ip route flush proto 110; ip -6 route flush proto 110",
        "ip route replace 10.244.2.0/24 via 192.168.1.77 proto 110",
        "ip -6 route replace fd00:10:0:2::/64 via fd00:1::77 dev eth0 proto 110",
        "ip route append 10.244.2.0/24 via 192.168.1.77 proto 110; ip route append 10.244.2.0/24 via 192.168.1.78 proto 110",
        "ip route delete 10.244.2.0/24; ip route append 10.244.2.0/24 via 192.168.1.78 proto 110; \
         ip route append 10.244.2.0/24 via 192.168.1.77 proto 110",
        "ip -6 route append fd00:10:0:2::/64 via fd00:1::77 dev eth0 proto 110",
        "ip route replace 10.244.2.0/24 proto 110 nexthop via 192.168.1.77 nexthop via 192.168.1.78",
        "ip route replace blackhole 10.244.2.0/24",
        "ip route replace unreachable 10.244.2.0/24; ip -6 route replace unreachable fd00:10:0:2::/64",
        "ip route delete 10.244.2.0/24; ip route add prohibit 10.244.2.0/24",
        "ip -6 route delete fd00:10:0:2::/64; ip -6 route add blackhole fd00:10:0:2::/64",
        "ip route prepend throw 10.244.2.0/24; ip route append prohibit 10.244.2.0/24",
        "ip -6 route append blackhole fd00:10:0:2::/64; ip -6 route append prohibit fd00:10:0:2::/64 || true",
        "ip route add blackhole 10.244.88.0/24 proto 110; ip -6 route add unreachable fd00:10:0:88::/64 proto 110",
        "ip -6 route add unreachable fd00:10:0:2::/128 proto 110; ip -6 route replace fd00:10:0:2::/64 via fd00:1::77 dev eth0",
        "ip route add 10.244.2.0/24 via 192.168.1.77 proto 110 metric 5",
        "ip route add 10.244.88.0/24 via 192.168.1.77 proto 110",
        "ip route add 10.244.77.0/24 dev flannel.1 proto boot",
        "ip neighbour flush dev flannel.1 nud permanent; ip -6 neighbour flush dev flannel-v6.1 nud permanent",
        "ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:77 dev flannel.1 nud permanent",
        "ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:77 dev flannel.1 nud reachable",
        "ip neighbour replace 10.244.77.0 lladdr 0a:00:00:00:00:77 dev flannel.1 nud permanent",
        "bridge fdb delete 0a:00:00:00:00:02 dev flannel.1 dst 192.168.1.2 self",
        "bridge fdb replace 0a:00:00:00:00:02 dev flannel.1 dst 192.168.1.77 self permanent",
        "bridge fdb append 0a:00:00:00:00:02 dev flannel.1 dst 192.168.1.77 self permanent || true",
        "bridge fdb add 0a:00:00:00:00:77 dev flannel.1 dst 192.168.1.77 self permanent",
        "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.77 self permanent; \
         bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.78 self permanent",
        "nft delete table inet netd",
        "nft flush ruleset",
        "nft flush chain inet netd postrouting",
        "nft add rule inet netd forward drop",
        "nft insert rule inet netd postrouting return",
        "nft 'add chain inet netd input { type filter hook input priority 0; policy drop; }'",
        "nft 'delete chain inet netd forward'",
        "sysctl -q -w net/ipv4/ip_forward=0",
        "sysctl -q -w net/ipv6/conf/all/forwarding=0",
        "sysctl -q -w net/ipv6/conf/flannel-v6.1/accept_ra=2",
        "sysctl -q -w net/ipv6/conf/flannel-v6.1/disable_ipv6=1",
    ];
    let mut network = vxlan(DUAL, DUAL);
    network.masquerade = Some(Ports::FullyRandom);
    network.forward_rules = true;
    on_a_node(DUAL, |kernel| {
        network.settle(kernel);
        for injury in injuries {
            sh(injury);
            let (plan, mut failed) = network.reconcile(kernel);
            // The hops of an IPv4 route cannot be taken away one by one.
            failed.retain(|(op, error)| !(op.starts_with("ip route delete") && error.is_missing()));
            assert!(failed.is_empty(), "after `{injury}` every op is carried out, but: {failed:?}\nof\n{plan}");
            let again = network.plan(kernel);
            assert!(again.is_empty(), "one run heals `{injury}`, but then there is\n{again}after\n{plan}");
            let harmless = injury.contains("|| true");
            assert!(harmless || !plan.is_empty(), "`{injury}` is seen");
        }
    });
}

#[test]
fn a_route_that_leads_nowhere_and_is_somebody_elses_stays() {
    // (what somebody does, the routes of that kind afterwards, what netd says of them)
    let table = [
        (
            "ip route replace blackhole 10.244.2.0/24 proto static",
            Some("ip route delete blackhole 10.244.2.0/24 proto 4"),
        ),
        (
            "ip -6 route delete fd00:10:0:2::/64; ip -6 route add blackhole fd00:10:0:2::/64 proto static",
            Some("ip route delete blackhole fd00:10:0:2::/64 proto 4"),
        ),
        ("ip route add blackhole 10.244.2.0/24 metric 9", None),
        // As a daemon does for its node's own range, and others for the whole network.
        ("ip route add blackhole 10.244.1.0/24; ip route add blackhole 10.244.0.0/16", None),
        ("ip route add blackhole 10.0.0.0/8; ip -6 route add blackhole fd00::/16", None),
    ];
    for (harm, said) in table {
        on_a_node(DUAL, |kernel| {
            let network = vxlan(DUAL, DUAL);
            network.settle(kernel);
            sh(harm);
            let theirs = "{ ip -4 route show table main type blackhole; ip -6 route show table main type blackhole; }";
            let read = || Command::new("sh").args(["-c", theirs]).output().expect("a shell").stdout;
            let before = read();
            assert!(!before.is_empty(), "`{harm}` makes a route");
            let (plan, failed) = network.reconcile(kernel);
            assert!(failed.is_empty() && plan.ops.is_empty(), "nothing is tried in vain: {failed:?} of\n{plan}");
            assert_eq!(read(), before, "after `{harm}`");
            let conflicts: Vec<_> = plan.conflicts.iter().map(ToString::to_string).collect();
            match said {
                Some(said) => {
                    assert!(matches!(&conflicts[..], [one] if one.ends_with(said)), "{said}, but {conflicts:?}");
                    sh(said);
                    network.settle(kernel);
                }
                None => assert!(conflicts.is_empty(), "{conflicts:?}"),
            }
        });
    }
}

#[test]
fn ipv6_that_is_off_for_new_links_is_switched_on() {
    on_a_node(V4, |kernel| {
        sh("sysctl -q -w net/ipv6/conf/default/disable_ipv6=1");
        vxlan(DUAL, V4).settle(kernel);
    });
}

#[test]
fn peers_come_and_go_in_any_number() {
    let network = vxlan(DUAL, DUAL);
    let all: Vec<Peer> = (2..=200).map(|n| if n % 2 == 0 { near(n) } else { far(n) }).collect();
    on_a_node(DUAL, |kernel| {
        network.clone().peers(all.clone()).settle(kernel);
        network.clone().peers(&all[50..60]).settle(kernel);
        let plan = network.clone().peers([]).settle(kernel);
        assert_eq!(plan.ops.len(), 10 * 2 * 3, "a route, a forwarding entry and a neighbour of each family");
        assert_eq!(kernel.links().expect("links").len(), 5, "lo, eth0 with its other end, and the two tunnels");
    });
}

/// Sends a router advertisement out of `wire`: a router of 30 minutes without prefixes.
fn advertise() {
    let socket =
        socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6).expect("a socket");
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from("wire")).expect("a socket of wire");
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).expect("hops that no router takes from");
    let [life_high, life_low] = 1800_u16.to_be_bytes();
    // Type 134, code, checksum (the kernel's), hop limit, flags, lifetime, reachable and retransmission time (RFC 4861 4.2).
    let packet = [134, 0, 0, 0, 64, 0, life_high, life_low, 0, 0, 0, 0, 0, 0, 0, 0];
    let to = SockaddrIn6::from(SocketAddrV6::new("ff02::1".parse().expect("all nodes"), 0, 0, 0));
    sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).expect("an advertisement that is sent");
}

#[test]
fn the_default_route_that_a_router_advertised_stays_when_the_host_begins_to_forward() {
    on_a_node(V4, |kernel| {
        // The router is a cable's other end, which here is the host's too.
        sh("sysctl -q -w net/ipv6/conf/eth0/accept_ra_from_local=1; ip address add fe80::fe/64 dev wire nodad");
        let routes = "ip -6 route show default proto ra";
        let advertised = || {
            advertise();
            !Command::new("sh").args(["-c", routes]).output().expect("a shell").stdout.is_empty()
        };
        assert!(advertised(), "the advertisement is taken");
        vxlan(V6, V4).settle(kernel);
        let there = !Command::new("sh").args(["-c", routes]).output().expect("a shell").stdout.is_empty();
        assert!(there, "the route outlives the switch");
        sh("ip -6 route flush default");
        assert!(advertised(), "and the next advertisement is taken too");
    });
}
