use jiff::Timestamp;

use super::*;
use crate::model::{Event, Object, ObjectName, Policy, PortName, Service, ServiceName};
use crate::services::Services;

/// A Service `ns/NAME` of a port 80, made at a second.
fn service(name: &str, created: Option<i64>, change: impl FnOnce(&mut ServicePort)) -> Event {
    let last = name.bytes().map(|byte| byte - b'a' + 1).sum();
    let mut port = ServicePort {
        name: PortName::new("ns", name, "", Protocol::Tcp),
        family: Family::V4,
        cluster_ip: [10, 96, 0, last].into(),
        port: 80,
        node_port: None,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
        affinity: None,
        health_check_node_port: None,
        created: created.map(|second| Timestamp::from_second(second).expect("a time")),
    };
    change(&mut port);
    Event::Set(Object::Service(Service { name: ServiceName::new("ns", name), ports: vec![port] }), Vec::new())
}

fn key(name: &str) -> PortKey {
    PortKey { name: PortName::new("ns", name, "", Protocol::Tcp), family: Family::V4 }
}

fn reported(services: &Services) -> Vec<String> {
    services.problems().iter().map(ToString::to_string).collect()
}

fn with_node_port(port: &mut ServicePort) {
    port.node_port = Some(30080);
}

fn with_external_ip(port: &mut ServicePort) {
    port.external_ips = vec![[192, 168, 99, 11].into(), [192, 168, 99, 12].into()];
}

fn with_balancer(port: &mut ServicePort) {
    port.load_balancer_ips = vec![[192, 168, 99, 11].into()];
}

#[test]
fn the_older_service_has_a_node_port_and_the_other_is_told() {
    let mut services = Services::new("n1");
    services.apply(service("b", Some(20), with_node_port));
    let changed = services.apply(service("a", Some(30), with_node_port));
    assert!(changed.problems && changed.ports.iter().eq([&key("a")]), "{changed:?}");
    assert_eq!(
        reported(&services),
        ["node port 30080/TCP (IPv4) of Service ns/a is that of Service ns/b, which is older: \
          give one of the two Services another node port"]
    );
    let node_port = |services: &Services, name| services.resolve(&key(name)).expect("a port").port.node_port;
    assert_eq!((node_port(&services, "a"), node_port(&services, "b")), (None, Some(30080)));

    let changed = services.apply(Event::Unset(ObjectName::Service(ServiceName::new("ns", "b")), Vec::new()));
    assert!(changed.problems && changed.ports.iter().eq([&key("a"), &key("b")]), "the other has it now: {changed:?}");
    assert_eq!((node_port(&services, "a"), reported(&services).len()), (Some(30080), 0));

    let changed = services.apply(service("c", Some(10), with_node_port));
    assert!(changed.ports.iter().eq([&key("a"), &key("c")]), "an older one takes it: {changed:?}");
    assert_eq!((node_port(&services, "a"), node_port(&services, "c")), (None, Some(30080)));
}

#[test]
fn an_external_address_is_one_service_ports_with_its_port_and_protocol() {
    let mut services = Services::new("n1");
    services.apply(service("a", Some(1), with_external_ip));
    services.apply(service("b", Some(2), with_balancer));
    let resolve = |services: &Services, name| services.resolve(&key(name)).expect("a port").port;
    assert_eq!(resolve(&services, "b").load_balancer_ips, [] as [IpAddr; 0]);
    assert_eq!(resolve(&services, "a").external_ips.len(), 2);
    assert!(
        reported(&services)[0]
            .starts_with("192.168.99.11:80/TCP of Service ns/b is that of Service ns/a, which is older")
    );
    for change in [|port: &mut ServicePort| port.port = 81, |port: &mut ServicePort| port.name.protocol = Protocol::Udp]
    {
        services.apply(service("b", Some(2), |port| {
            with_balancer(port);
            change(port);
        }));
        assert_eq!(reported(&services), [] as [String; 0], "another port or protocol is no conflict");
    }
    // One Service may name an address twice.
    services.apply(service("a", Some(1), |port| {
        with_external_ip(port);
        with_balancer(port);
    }));
    assert_eq!(reported(&services), [] as [String; 0]);
}

#[test]
fn a_cluster_ip_cannot_be_taken_over_by_an_older_service() {
    let mut services = Services::new("n1");
    services.apply(service("a", Some(9), |_| {}));
    let changed = services.apply(service("b", Some(1), |port| port.external_ips = vec![[10, 96, 0, 1].into()]));
    assert!(changed.ports.iter().eq([&key("b")]), "{changed:?}");
    assert_eq!(services.resolve(&key("b")).expect("a port").port.external_ips, [] as [IpAddr; 0]);
    assert!(reported(&services)[0].contains("whose cluster IP it is"), "{:?}", reported(&services));
}

#[test]
fn of_two_services_with_one_cluster_ip_one_is_not_served() {
    let mut services = Services::new("n1");
    services.apply(service("b", None, |port| port.cluster_ip = [10, 96, 0, 1].into()));
    services.apply(service("a", None, |_| {}));
    assert!(services.resolve(&key("a")).is_some() && services.resolve(&key("b")).is_none());
    assert!(
        reported(&services)[0].contains("which comes first by name, and the port is not served at all"),
        "{:?}",
        reported(&services)
    );
    services.apply(service("b", Some(5), |port| port.cluster_ip = [10, 96, 0, 1].into()));
    assert!(services.resolve(&key("b")).is_some(), "one of unknown age is younger");
}
