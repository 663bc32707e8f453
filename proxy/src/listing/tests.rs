use std::net::IpAddr;

use super::*;
use crate::fixtures::service_port;
use crate::model::{Endpoint, Event, Object, Protocol, Service, ServiceName, Slice, SliceName, SlicePort};

fn endpoint(last: u8, is_local: bool, ready: bool) -> Endpoint {
    let (zone_hints, node_hints) = Default::default();
    let address = IpAddr::from([10, 180, 0, last]);
    Endpoint { address, is_local, ready, serving: ready, terminating: false, zone_hints, node_hints }
}

/// A Service with one endpoint here, one elsewhere, and one that is not ready.
fn state(port: ServicePort) -> Services {
    let mut services = Services::new("n1");
    let name = ServiceName::new("default", &port.name.service.name);
    let slice = Slice {
        name: SliceName { namespace: "default".into(), name: "slice".into() },
        service: port.name.service.name.clone(),
        family: port.family,
        ports: Box::new([SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }]),
        endpoints: Box::new([endpoint(1, true, true), endpoint(2, false, true), endpoint(3, false, false)]),
    };
    for object in [Object::Service(Service { name, ports: vec![port] }), Object::Slice(slice, None)] {
        services.apply(Event::Set(object, Vec::new()));
    }
    services
}

fn text(services: &Services) -> String {
    let listing = Listing { listed: true, ..Listing::of(services, &services.problems(), true, |_| None) };
    table::table(&listing)
}

#[test]
fn each_endpoint_says_why_it_is_left_out() {
    let text = text(&state(service_port("web", Protocol::Tcp)));
    let expected = "\
Services of node n1: programmed
SERVICE           PROTO  ADDRESSES      NODE PORT  ENDPOINTS
default/web:http  TCP    172.30.0.3:80  3003       2 of 3
    10.180.0.1:8080, on this node
    10.180.0.2:8080
    10.180.0.3:8080  left out: it is not ready
";
    assert_eq!(text, expected);
}

#[test]
fn a_policy_leaves_out_for_its_own_addresses() {
    let port = service_port("web", Protocol::Tcp);
    let external = text(&state(ServicePort { external_policy: Policy::Local, ..port.clone() }));
    assert!(external.contains("10.180.0.2:8080  left out of other addresses: it is on another node\n"), "{external}");
    assert!(external.contains("2 of 3, externalTrafficPolicy Local\n"), "the cluster IP uses two: {external}");
    // Without a node port the policy of the cluster IP is the only one.
    let port = ServicePort { node_port: None, internal_policy: Policy::Local, ..port };
    let internal = text(&state(port));
    assert!(internal.contains("10.180.0.2:8080  left out: it is on another node\n"), "{internal}");
    assert!(internal.contains("1 of 3, internalTrafficPolicy Local\n"), "{internal}");
}

#[test]
fn what_another_service_has_is_not_listed_and_is_a_problem() {
    let mut services = state(service_port("web", Protocol::Tcp));
    let port = ServicePort { cluster_ip: [172, 30, 0, 99].into(), ..service_port("wex", Protocol::Tcp) };
    let name = ServiceName::new("default", "wex");
    services.apply(Event::Set(Object::Service(Service { name, ports: vec![port] }), Vec::new()));
    let listing = Listing::of(&services, &services.problems(), true, |_| None);
    assert_eq!((listing.services[0].node_port, listing.services[1].node_port), (Some(3003), None));
    let text = table::table(&Listing { listed: true, ..listing });
    assert!(text.contains("default/wex:http  TCP    172.30.0.99:80  -          0 of 0\n"), "{text}");
    assert!(
        text.contains("\nPROBLEMS\nnode port 3003/TCP (IPv4) of Service default/wex:http is that of Service"),
        "{text}"
    );
}

#[test]
fn the_document_is_read_again() {
    let listing = Listing::of(&state(service_port("sticky", Protocol::Udp)), &Problems::new(), false, |_| None);
    let text = serde_json::to_string(&listing).expect("a document");
    assert_eq!(serde_json::from_str::<Listing>(&text).expect("the same document"), listing);
    assert!(text.contains(r#""affinitySeconds":60"#) && text.contains(r#""programmed":false"#), "{text}");
}
