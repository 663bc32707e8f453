use super::*;
use dataplane::route::RouteKind;

const UNDERLAY: u32 = 2;

fn route(destination: &str, gateway: Option<&str>, index: u32, metric: u32) -> Route {
    Route {
        destination: destination.parse().expect("prefix"),
        gateway: gateway.map(|text| text.parse().expect("address")),
        index,
        onlink: false,
        protocol: RouteProtocol(2),
        metric,
        kind: RouteKind::Unicast,
    }
}

#[test]
fn the_underlays_own_routes_say_what_is_on_its_link() {
    let connected = route("192.168.1.0/24", None, UNDERLAY, 0);
    let default = route("0.0.0.0/0", None, UNDERLAY, 0);
    let ours = Route { protocol: PROTOCOL, ..route("192.168.1.0/25", None, UNDERLAY, 0) };
    for (routes, is_on_link) in [
        (vec![connected], true),
        (vec![default], false),
        (vec![ours], false),
        (vec![default, connected], true),
        (vec![route("192.168.0.0/16", Some("192.168.1.1"), UNDERLAY, 0)], false),
        // Another interface in the same subnet, which the kernel prefers.
        (vec![route("192.168.1.0/24", None, 3, 0), route("192.168.1.0/24", None, UNDERLAY, 200)], true),
        (vec![route("192.168.1.0/24", None, 3, 0)], false),
        (vec![connected, route("192.168.1.0/28", None, 3, 0)], false),
        (vec![connected, route("192.168.1.12/32", Some("192.168.1.1"), UNDERLAY, 0)], false),
    ] {
        let address = "192.168.1.12".parse().expect("address");
        assert_eq!(OnLink::new(&routes, UNDERLAY).reaches(address), is_on_link, "{routes:?}");
    }
}
