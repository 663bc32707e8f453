use std::net::IpAddr;
use std::os::fd::AsFd;

use super::*;
use crate::link::{Kind, NewVeth, Tunnel, Vxlan};
use crate::neighbour;
use crate::netns;
use crate::route::{Route, RouteKind};
use crate::types::{Family, IfName, Mac, Mtu, Prefix, RouteProtocol, Vni};
use crate::{address, link};

fn name(text: &str) -> IfName {
    text.parse().expect("interface name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// A namespace with an underlay `u0` (`192.168.9.1/24`, `fd00:9::1/64`) over which tunnels can be made; its index.
fn underlay(socket: &mut RouteSocket) -> u32 {
    let mac = Mac::local([2, 0, 0, 0, 0, 1]);
    socket.request(link::add_bridge(&name("u0"), mac, None)).expect("bridge");
    let index = socket.link(&name("u0")).expect("read").expect("u0").index;
    let outcomes =
        socket.batch(&[address::add(index, ip("192.168.9.1"), 24), address::add(index, ip("fd00:9::1"), 64)]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    index
}

fn vxlan(underlay: u32, local: IpAddr, vni: i64) -> Vxlan {
    let vni = Vni::try_from(vni).expect("VNI");
    Vxlan { vni, local: Some(local), underlay: Some(underlay), port: 8472, learning: false, gbp: false, foreign: false }
}

#[test]
fn a_vxlan_device_reads_back_as_it_was_made() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let index = underlay(&mut socket);
        for (vni, local, gbp, learning) in [(1, "192.168.9.1", false, false), (2, "fd00:9::1", true, true)] {
            let mac = Mac::local([2, 0, 0, 0, 1, u8::try_from(vni).expect("small")]);
            let wanted = Tunnel::Vxlan(Vxlan { learning, gbp, ..vxlan(index, ip(local), vni) });
            let mtu = Mtu::try_from(1400).expect("MTU");
            let device = name(&format!("flannel.{vni}"));
            socket.request(link::add_tunnel(&device, &wanted, Some(mac), mtu)).expect("made");
            let made = socket.link(&device).expect("read").expect("there");
            assert_eq!(made.kind, Kind::Tunnel(wanted));
            assert_eq!((made.mac, made.mtu, made.up), (Some(mac), 1400, true));
        }
    })
    .expect("namespace");
}

#[test]
fn what_is_not_there_has_no_entries_and_no_error() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        // No address was ever given, so IPv4 has no main table yet.
        assert_eq!(socket.routes(Family::V4).expect("routes"), []);
        assert_eq!(socket.fdb(77).expect("forwarding entries"), []);
        assert_eq!(socket.neighbours(77, Family::V4).expect("neighbours"), []);
        // The loopback device: it has no forwarding entries.
        assert_eq!(socket.fdb(1).expect("forwarding entries"), []);
    })
    .expect("namespace");
}

#[test]
fn an_index_is_that_of_the_sockets_namespace() {
    let (socket, index) = netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let index = underlay(&mut socket);
        (socket, index)
    })
    .expect("namespace");
    assert_eq!(socket.index(&name("u0")).expect("asked"), Some(index));
    assert_eq!(socket.index(&name("u1")).expect("asked"), None, "there is no such link");
    assert_eq!(RouteSocket::open().expect("socket").index(&name("u0")).expect("asked"), None, "nor here");
}

#[test]
fn each_request_of_a_batch_gets_its_own_answer() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let index = underlay(&mut socket);
        let route = |third: u8, gateway: &str| Route {
            destination: Prefix::new(IpAddr::from([10, 9, third, 0]), 24).expect("prefix"),
            gateway: Some(ip(gateway)),
            index,
            onlink: false,
            protocol: RouteProtocol(110),
            metric: 0,
            kind: RouteKind::Unicast,
        };
        let mut requests: Vec<_> = (0..250).map(|third| route(third, "192.168.9.2").add()).collect();
        requests[7] = route(7, "172.16.0.1").add();
        requests[249] = route(0, "192.168.9.3").add();
        let outcomes = socket.batch(&requests);
        let failed: Vec<_> = (0..250).filter(|place| outcomes[*place].is_err()).collect();
        assert_eq!(failed, [7, 249], "only the unreachable gateway and the duplicate are refused");
        let text = outcomes[7].as_ref().expect_err("refused").to_string();
        assert!(text.contains("Nexthop has invalid gateway"), "the kernel's own sentence is kept: {text}");
        assert!(outcomes[249].as_ref().expect_err("refused").is_exists());
        let ours = socket.routes(Family::V4).expect("dump").into_iter().filter(|r| r.protocol == RouteProtocol(110));
        assert_eq!(ours.count(), 248);
    })
    .expect("namespace");
}

#[test]
fn routes_read_back_in_both_families_and_across_them() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let index = underlay(&mut socket);
        let wanted = [
            ("10.1.0.0/24", "192.168.9.7", false),
            ("10.2.0.0/24", "10.2.0.0", true),
            ("10.3.0.0/24", "fd00:9::7", false),
            ("fd01:1::/64", "fd00:9::7", false),
            ("fd01:2::/64", "fd01:2::", true),
        ]
        .map(|(destination, gateway, onlink)| {
            let destination: Prefix = destination.parse().expect("prefix");
            let metric = Route::default_metric(destination.family());
            Route {
                destination,
                gateway: Some(ip(gateway)),
                index,
                onlink,
                protocol: RouteProtocol(110),
                metric,
                kind: RouteKind::Unicast,
            }
        });
        for route in wanted {
            socket.request(route.add()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
        }
        let mut read = Vec::new();
        for family in Family::BOTH {
            read.extend(socket.routes(family).expect("dump").into_iter().filter(|r| r.protocol == RouteProtocol(110)));
        }
        assert_eq!(read, wanted);
        for route in wanted {
            socket.request(route.delete()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
        }
        let gone = socket.request(wanted[0].delete()).expect_err("already gone");
        assert!(gone.is_missing(), "{gone}");
        let (source, out) = socket.route_to(ip("192.168.9.200")).expect("asked").expect("reachable");
        assert_eq!((source, out), (ip("192.168.9.1"), index));
        assert_eq!(socket.route_to(ip("8.8.8.8")).ok().flatten(), None);
    })
    .expect("namespace");
}

#[test]
fn neighbours_and_forwarding_entries_are_replaced_in_place() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let underlay = underlay(&mut socket);
        let mtu = Mtu::try_from(1400).expect("MTU");
        let new = vxlan(underlay, ip("192.168.9.1"), 5);
        let device = name("flannel.5");
        socket.request(link::add_tunnel(&device, &Tunnel::Vxlan(new), Some(Mac::local([2; 6])), mtu)).expect("made");
        let index = socket.link(&device).expect("read").expect("there").index;
        let (mac, other) = (Mac::local([2, 1, 1, 1, 1, 1]), Mac::local([2, 2, 2, 2, 2, 2]));
        let outcomes = socket.batch(&[
            neighbour::put(index, ip("10.9.2.0"), mac),
            neighbour::put(index, ip("10.9.2.0"), other),
            neighbour::put(index, ip("fd01:9::"), mac),
            neighbour::put_fdb(index, mac, ip("192.168.9.2")),
            neighbour::put_fdb(index, mac, ip("192.168.9.3")),
        ]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let v4 = socket.neighbours(index, Family::V4).expect("dump");
        assert_eq!(
            v4.iter().map(|n| (n.address, n.mac, n.permanent)).collect::<Vec<_>>(),
            [(ip("10.9.2.0"), Some(other), true)]
        );
        let v6 = socket.neighbours(index, Family::V6).expect("dump");
        assert!(v6.iter().any(|n| n.address == ip("fd01:9::") && n.mac == Some(mac)), "{v6:?}");
        let fdb = socket.fdb(index).expect("dump");
        assert_eq!(
            fdb.iter().map(|e| (e.mac, e.destination, e.permanent)).collect::<Vec<_>>(),
            [(mac, ip("192.168.9.3"), true)]
        );
        socket.request(neighbour::delete_fdb(index, mac, ip("192.168.9.3"))).expect("deleted");
        assert!(socket.fdb(index).expect("dump").is_empty());
    })
    .expect("namespace");
}

#[test]
fn a_veth_pair_is_made_into_another_namespace_in_one_request() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let bridge = underlay(&mut socket);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let socket = &mut socket;
        std::thread::scope(move |scope| {
            scope.spawn(move || {
                netns::scratch(move || {
                    let pod = std::fs::File::open("/proc/thread-self/ns/net").expect("namespace");
                    sender.send(pod).expect("received");
                    wait.recv().expect("made");
                    let mut inside = RouteSocket::open().expect("socket");
                    let eth0 = inside.link(&name("eth0")).expect("read").expect("there");
                    assert_eq!((eth0.up, eth0.mtu), (false, 1400));
                })
                .expect("namespace");
            });
            let done = done; // dropped when an assertion fails, so that the other thread ends
            let pod = receiver.recv().expect("namespace");
            let new = NewVeth {
                name: &name("veth0"),
                mac: None,
                master: Some(bridge),
                mtu: Mtu::try_from(1400).ok(),
                peer: &name("eth0"),
                peer_mac: None,
                peer_netns: pod.as_fd(),
            };
            let veth0 = name("veth0");
            let device = link::Device::Name(&veth0);
            let outcomes =
                socket.batch(&[link::add_veth(&new), link::set_port(device, true, false, "net pod eth0", None)]);
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
            let ports = socket.ports(bridge).expect("dump");
            assert_eq!(ports.len(), 1);
            assert_eq!(ports[0].alias.as_deref(), Some("net pod eth0"));
            assert!(ports[0].port.expect("a port").hairpin);
            done.send(()).expect("received");
        });
    })
    .expect("namespace");
}

#[test]
fn routes_that_lead_nowhere_read_back_as_they_were_made() {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("socket");
        let kinds = [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw];
        for (destination, kind) in
            ["10.1.0.0/24", "fd01:1::/64"].into_iter().flat_map(|to| kinds.map(|kind| (to, kind)))
        {
            let destination: Prefix = destination.parse().expect("prefix");
            let (gateway, protocol, metric) = (None, RouteProtocol(110), 7);
            let route = Route { destination, gateway, index: 1, onlink: false, protocol, metric, kind };
            socket.request(route.add()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
            let routes = socket.routes(destination.family()).expect("dump");
            let read = routes.into_iter().filter(|read| read.protocol == protocol);
            assert_eq!(read.collect::<Vec<_>>(), [route]);
            socket.request(route.delete()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
        }
    })
    .expect("namespace");
}
