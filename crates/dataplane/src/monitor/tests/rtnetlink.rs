//! Links, addresses, routes, neighbours, sysctls and policy rules.

use super::*;

#[test]
fn entries_of_other_devices_wake_nobody() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().expect("a socket");
        let (own, other) = (bridge(&mut socket, "own"), bridge(&mut socket, "other"));
        let devices = Devices::Only { indexes: [own].into(), newest: other };
        let (mut monitor, subscription) = monitor(Filter { devices, ..Filter::default() });
        let mac = Mac::local([2, 0, 0, 0, 0, 9]);
        let on = |index| [neighbour::put(index, ip("10.1.0.9"), mac), address::add(index, ip("10.1.0.1"), 24)];
        for outcome in socket.batch(&on(other)) {
            outcome.expect("an entry");
        }
        socket
            .request(link::set(Device::Index(other), &link::LinkChange { up: Some(true), ..Default::default() }))
            .expect("up");
        assert!(!wakes(&mut monitor), "another device");
        let newer = bridge(&mut socket, "newer");
        for index in [own, newer] {
            for outcome in socket.batch(&on(index)) {
                outcome.expect("an entry");
            }
            let events = monitor.drain(subscription).expect("a working monitor");
            let indexes: Vec<u32> = events
                .iter()
                .map(|event| match event {
                    Event::New(RtnetlinkObject::Neighbour(entry)) => entry.index,
                    Event::New(RtnetlinkObject::Address(address)) => address.index,
                    _ => 0,
                })
                .collect();
            assert_eq!(indexes, [index; 2], "a neighbour and an address: {events:?}");
        }
        monitor.set_filter(subscription, Filter::default());
        for outcome in socket.batch(&[neighbour::delete(own, ip("10.1.0.9")), neighbour::delete(newer, ip("10.1.0.9"))])
        {
            outcome.expect("an entry");
        }
        assert!(!wakes(&mut monitor), "nothing is wanted any more");
    });
}

fn route(destination: &str, kind: RouteKind) -> Route {
    let (destination, protocol) = (destination.parse().expect("a prefix"), RouteProtocol(110));
    Route { destination, gateway: None, index: 1, onlink: false, protocol, metric: 7, kind }
}

#[test]
fn routes_are_received_within_the_wanted_prefixes() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().expect("a socket");
        let routes =
            Routes::Within(vec!["10.1.0.0/16".parse().expect("a prefix"), "fd01::/32".parse().expect("a prefix")]);
        let (mut monitor, subscription) = monitor(Filter { routes, ..Filter::default() });
        let kinds = [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw];
        let wanted = ["10.1.0.0/24", "10.1.0.0/16", "fd01:0:1::/64", "0.0.0.0/0", "::/0"];
        let others = ["10.2.0.0/24", "10.0.0.0/8", "fd01:1::/64"];
        for (destination, kind) in wanted.into_iter().chain(others).flat_map(|to| kinds.map(|kind| (to, kind))) {
            let route = route(destination, kind);
            socket.request(route.add()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
            socket.request(route.delete()).unwrap_or_else(|error| panic!("{route:?}: {error}"));
            let events = monitor.drain(subscription).expect("a working monitor");
            let both = [Event::New(RtnetlinkObject::Route(route)), Event::Deleted(RtnetlinkObject::Route(route))];
            let expected: &[Event] = if wanted.contains(&destination) { &both } else { &[] };
            assert_eq!(events, expected, "{destination}");
        }
        shell("ip route add blackhole 10.1.9.0/24 table 7; ip route add blackhole 10.1.9.0/24 table 700");
        assert_eq!(monitor.drain(subscription).expect("a working monitor"), [], "routes of other tables");
    });
}

#[test]
fn a_replaced_route_and_one_of_several_hops_are_received_as_such() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().expect("a socket");
        bridge(&mut socket, "u0");
        shell("ip address add 192.168.9.1/24 dev u0");
        let (mut monitor, subscription) = monitor(Filter { routes: Routes::All, ..Filter::default() });
        socket.request(route("10.1.0.0/24", RouteKind::Blackhole).add()).expect("a route");
        let other = route("10.1.0.0/24", RouteKind::Unreachable);
        socket.request(other.replace()).expect("another route");
        shell("ip route add 10.2.0.0/24 nexthop via 192.168.9.7 nexthop via 192.168.9.8");
        let events = monitor.drain(subscription).expect("a working monitor");
        assert_eq!(events[1..], [Event::Replaced(other), Event::Unparsed], "{events:?}");
    });
}

#[test]
fn sysctls_are_received_when_they_are_set() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().expect("a socket");
        let index = bridge(&mut socket, "u0");
        let (mut monitor, subscription) = monitor(Filter { links: true, ..Filter::default() });
        let (all, device) = (None, Some(index));
        for (key, value, device, forwards) in [
            ("net/ipv4/ip_forward", "1", all, Some(true)),
            ("net/ipv4/conf/all/forwarding", "0", all, Some(false)),
            ("net/ipv4/conf/u0/forwarding", "1", device, Some(true)),
            ("net/ipv6/conf/all/forwarding", "1", all, Some(true)),
            ("net/ipv6/conf/u0/forwarding", "0", device, Some(false)),
            ("net/ipv4/conf/all/rp_filter", "1", all, None),
            ("net/ipv4/conf/u0/rp_filter", "2", device, None),
        ] {
            std::fs::write(format!("/proc/sys/{key}"), value).expect("a sysctl");
            let events = monitor.drain(subscription).expect("a working monitor");
            assert!(events.contains(&Event::Netconf(NetconfChange { device, forwards })), "{key}={value}: {events:?}");
        }
    });
}

#[test]
fn links_are_received_before_what_is_on_them() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().expect("a socket");
        let (mut monitor, subscription) = monitor(Filter::all());
        let index = bridge(&mut socket, "u0");
        socket.request(address::add(index, ip("192.168.9.1"), 24)).expect("an address");
        socket.request(link::delete(Device::Index(index))).expect("no bridge");
        let events = monitor.drain(subscription).expect("a working monitor");
        let place = |what: &str, is: &dyn Fn(&Event) -> bool| {
            events.iter().position(is).unwrap_or_else(|| panic!("{what} in {events:?}"))
        };
        let is_new =
            |event: &Event| matches!(event, Event::New(RtnetlinkObject::Link(link)) if link.kind == Kind::Bridge);
        let has_address =
            |event: &Event| matches!(event, Event::New(RtnetlinkObject::Address(address)) if address.index == index);
        let is_gone =
            |event: &Event| matches!(event, Event::Deleted(RtnetlinkObject::Link(link)) if link.index == index);
        let order = [place("a link", &is_new), place("an address", &has_address), place("no link", &is_gone)];
        assert!(order.is_sorted(), "{order:?} of {events:?}");
    });
}

#[test]
fn policy_rules_are_received_where_they_are_wanted() {
    in_namespace(|| {
        let (mut deaf, _) = monitor(Filter { rules: false, ..Filter::all() });
        let (mut monitor, subscription) = monitor(Filter { rules: true, ..Filter::default() });
        for command in
            ["ip rule add pref 5270 lookup 52", "ip -6 rule add pref 5270 lookup 52", "ip rule del pref 5270"]
        {
            shell(command);
            assert_eq!(monitor.drain(subscription).expect("a working monitor"), [Event::Rules], "{command}");
            assert!(!wakes(&mut deaf), "{command} wakes one who does not want it");
        }
    });
}
