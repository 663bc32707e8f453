//! Services as large, and names as long, as they may be.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;

/// The cluster IP's Service with so many endpoints, from the address `10.0.0.1` on.
fn with_endpoints(count: u32) -> BTreeMap<PortKey, Option<Resolved>> {
    let first = Ipv4Addr::new(10, 0, 0, 1).to_bits();
    let address = |number| SocketAddr::from((Ipv4Addr::from_bits(first + number), 8080));
    let port = ServicePort { node_port: None, ..service_port("a", Protocol::Tcp) };
    let cluster = (0..count).map(address).collect();
    [(port.key(), Some(Resolved { cluster, ..fixtures::resolved(port, &[1]) }))].into()
}

#[test]
fn a_service_may_have_a_hundred_thousand_endpoints() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.keeper.update(&with_endpoints(100_000));
        bed.run();
        let endpoints = bed.keeper.ruleset().table().sets["services-endpoints"].elements.len();
        assert_eq!(endpoints, 100_000, "each endpoint has an element, and the kernel has them all");
        // The last one goes: the map loses its element, and the Service is one of those with one endpoint less.
        bed.keeper.update(&with_endpoints(99_999));
        assert!(bed.keeper.is_dirty() && !bed.keeper.needs_full());
        let report = bed.run();
        assert_eq!(report.applied, 4, "the endpoint, the Service in two sets, and room: {:?}", report.counts);
        bed.update(&[("a", &[]), ("bb", &[1])]);
        bed.update(&[("a", &[1])]);
    })
    .expect("a namespace");
}

#[test]
fn names_may_be_as_long_as_the_api_lets_them_be() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        let long = |letter: &str| letter.repeat(253);
        let name = |port: &str| PortName::new(&long("n"), &long("s"), port, Protocol::Tcp);
        let [one, other] = [long("p"), long("q")].map(|port| name(&port));
        let mut ports = BTreeMap::new();
        for (name, last) in [(one, 1), (other, 2)] {
            let port =
                ServicePort { name, port: 79 + u16::from(last), node_port: None, ..service_port("a", Protocol::Tcp) };
            ports.insert(port.key(), Some(fixtures::resolved(port, &[last])));
        }
        bed.keeper.update(&ports);
        bed.run();
        let listed = nft("list map ip netd-proxy services-1");
        assert!(listed.contains("10.180.0.1 . 80") && listed.contains("10.180.0.2 . 80"), "{listed}");
        assert!(listed.contains(&format!("comment \"{}", "n".repeat(100))), "the comment is what has room: {listed}");
        bed.keeper.update(&ports.into_keys().map(|key| (key, None)).collect());
        bed.run();
        assert!(!nft("list map ip netd-proxy services-1").contains("10.180.0."), "both are gone");
    })
    .expect("a namespace");
}
