use dataplane::conntrack::Tuple;

use super::*;
use crate::listing::{EndpointListing, PortListing};

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn flow(protocol: u8, to: &str, answered_by: &str) -> Flow {
    let client = socket("10.9.9.9:4000");
    let original = Tuple { source: client, destination: socket(to), protocol };
    let reply = Tuple { source: socket(answered_by), destination: client, protocol };
    Flow { original, reply, status: 0, zone: 0, id: 0, packets: 3, bytes: 200 }
}

#[test]
fn a_flow_is_counted_for_the_service_that_it_was_sent_to_and_the_endpoint_that_answers() {
    let endpoint = |address| EndpointListing {
        address: socket(address),
        local: false,
        left_out_internally: None,
        left_out_externally: None,
        traffic: None,
    };
    let port = |service: &str, address, node_port| PortListing {
        service: service.to_owned(),
        protocol: "TCP".to_owned(),
        family: "IPv4".to_owned(),
        addresses: vec![socket(address)],
        node_port,
        loopback: None,
        internal_traffic_policy: "Cluster".to_owned(),
        external_traffic_policy: "Cluster".to_owned(),
        affinity_seconds: None,
        endpoints: vec![endpoint("10.1.0.1:80"), endpoint("10.1.0.2:80")],
    };
    let services = vec![port("a/one:http", "10.96.0.1:80", Some(30000)), port("a/two:http", "10.96.0.2:80", None)];
    let mut listing = Listing { node: "n1".to_owned(), listed: true, programmed: true, services, problems: Vec::new() };
    let flows = [
        flow(6, "10.96.0.1:80", "10.1.0.1:80"),
        flow(6, "192.168.1.1:30000", "10.1.0.1:80"),
        flow(6, "10.96.0.2:80", "10.1.0.2:80"),
        // Another protocol, an endpoint itself, an endpoint that is gone, and a port of nobody.
        flow(17, "10.96.0.1:80", "10.1.0.1:80"),
        flow(6, "10.1.0.1:80", "10.1.0.1:80"),
        flow(6, "10.96.0.1:80", "10.1.0.77:80"),
        flow(6, "192.168.1.1:30001", "10.1.0.1:80"),
    ];
    add(&mut listing, &flows);
    let counted = |service: usize, endpoint: usize| listing.services[service].endpoints[endpoint].traffic;
    let traffic = |connections| Some(Traffic { connections, packets: 3 * connections, bytes: 200 * connections });
    assert_eq!([counted(0, 0), counted(0, 1)], [traffic(2), traffic(0)]);
    assert_eq!([counted(1, 0), counted(1, 1)], [traffic(0), traffic(1)]);
}
