use std::net::IpAddr;

use dataplane::types::Family;
use proptest::prelude::*;

use super::*;
use crate::model::{Policy, PortName, Protocol};

fn port(service: &str, name: &str, last: u8) -> ServicePort {
    ServicePort {
        name: PortName::new("ns", service, name, Protocol::Tcp),
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
        created: None,
    }
}

fn service(name: &str, ports: Vec<ServicePort>) -> Event {
    Event::Set(Object::Service(Service { name: ServiceName::new("ns", name), ports }), Vec::new())
}

fn endpoint(last: u8) -> Endpoint {
    let (zone_hints, node_hints) = Default::default();
    let address = IpAddr::from([10, 244, 0, last]);
    Endpoint { address, is_local: false, ready: true, serving: true, terminating: false, zone_hints, node_hints }
}

fn slice_name(name: &str) -> SliceName {
    SliceName { namespace: "ns".into(), name: name.into() }
}

/// A slice of a Service's port of that name.
fn slice(name: &str, service: &str, port: &str, endpoints: Vec<Endpoint>) -> Event {
    let ports = Box::new([SlicePort { name: port.into(), protocol: Protocol::Tcp, port: 8080 }]);
    let slice = Slice {
        name: slice_name(name),
        service: service.into(),
        family: Family::V4,
        ports,
        endpoints: endpoints.into(),
    };
    Event::Set(Object::Slice(slice, None), Vec::new())
}

fn gone(name: &str) -> Event {
    Event::Unset(ObjectName::Slice(slice_name(name)), Vec::new())
}

fn key(service: &str, port: &str) -> PortKey {
    PortKey { name: PortName::new("ns", service, port, Protocol::Tcp), family: Family::V4 }
}

fn cluster(services: &Services, key: &PortKey) -> Vec<String> {
    let resolved = services.resolve(key).expect("a port");
    resolved.cluster.iter().map(ToString::to_string).collect()
}

#[test]
fn a_slice_concerns_the_ports_of_its_service_that_it_names() {
    let mut services = Services::new("n1");
    services.apply(service("a", vec![port("a", "http", 1), ServicePort { port: 443, ..port("a", "https", 1) }]));
    services.apply(service("b", vec![port("b", "http", 2)]));
    let changed = services.apply(slice("a-1", "a", "http", vec![endpoint(1)]));
    assert!(changed.ports.iter().eq([&key("a", "http")]), "{changed:?}");
    assert!(services.apply(slice("a-1", "a", "http", vec![endpoint(1)])).is_empty(), "the same again changes nothing");
    let changed = services.apply(slice("a-1", "a", "https", vec![endpoint(1)]));
    assert_eq!(changed.ports.len(), 2, "one port of the slice is gone and one is new");
    assert_eq!(cluster(&services, &key("a", "http")), [] as [String; 0]);
    let changed = services.apply(slice("a-1", "b", "http", vec![endpoint(1)]));
    assert!(changed.ports.iter().eq([&key("a", "https"), &key("b", "http")]), "another Service's now: {changed:?}");
    assert_eq!(cluster(&services, &key("b", "http")), ["10.244.0.1:8080"]);
    assert!(services.apply(gone("a-1")).ports.iter().eq([&key("b", "http")]));
    assert!(services.apply(gone("a-1")).is_empty());
}

#[test]
fn one_address_and_port_counts_once_and_an_endpoint_of_this_node_goes_first() {
    let mut services = Services::new("n1");
    services.apply(service("a", vec![port("a", "", 1)]));
    services.apply(slice("a-1", "a", "", vec![endpoint(1), endpoint(2), endpoint(1)]));
    services.apply(slice("a-2", "a", "", vec![Endpoint { is_local: true, ..endpoint(2) }]));
    let resolved = services.resolve(&key("a", "")).expect("a port");
    assert_eq!((resolved.cluster.len(), resolved.local.len()), (2, 1), "case 70: {resolved:?}");
}

/// Case 70: an endpoint that moves between slices.
#[test]
fn an_endpoint_that_moves_from_slice_to_slice_never_vanishes() {
    let mut services = Services::new("n1");
    services.apply(service("a", vec![port("a", "", 1)]));
    services.apply(slice("a-1", "a", "", vec![endpoint(1)]));
    services.apply(slice("a-2", "a", "", vec![Endpoint { ready: false, ..endpoint(1) }]));
    assert_eq!(cluster(&services, &key("a", "")), ["10.244.0.1:8080"], "in both: the one that is ready counts");
    services.apply(slice("a-2", "a", "", vec![endpoint(1)]));
    services.apply(gone("a-1"));
    assert_eq!(cluster(&services, &key("a", "")), ["10.244.0.1:8080"]);
}

#[test]
fn slices_may_come_first_and_nothing_of_a_service_stays() {
    let mut services = Services::new("n1");
    assert!(services.apply(slice("a-1", "a", "", vec![endpoint(1)])).is_empty(), "there is no such Service yet");
    let changed = services.apply(service("a", vec![port("a", "", 1)]));
    assert!(changed.ports.iter().eq([&key("a", "")]));
    assert_eq!(cluster(&services, &key("a", "")), ["10.244.0.1:8080"]);
    let changed = services.apply(Event::Unset(ObjectName::Service(ServiceName::new("ns", "a")), Vec::new()));
    assert!(changed.ports.iter().eq([&key("a", "")]), "a port that is gone has changed");
    assert_eq!(services.resolve(&key("a", "")), None);
    services.apply(gone("a-1"));
    assert!(services.entries.is_empty() && services.slices.is_empty(), "{services:?}");
}

#[test]
fn a_list_drops_what_is_not_in_it() {
    let mut services = Services::new("n1");
    let fault = Problem::new(crate::problem::Kind::InvalidField, "x of Service ns/c", "is wrong");
    let bad = || Event::Unset(ObjectName::Service(ServiceName::new("ns", "c")), vec![fault.clone()]);
    services.apply(service("a", vec![port("a", "", 1)]));
    services.apply(service("b", vec![port("b", "", 2)]));
    services.apply(bad());
    services.apply(slice("a-1", "a", "", vec![endpoint(1)]));
    services.apply(Event::Init(Collection::Services));
    services.apply(service("b", vec![port("b", "", 2)]));
    services.apply(Event::Init(Collection::Services));
    services.apply(service("a", vec![port("a", "", 1)]));
    assert_eq!((services.ports().count(), services.problems().len()), (2, 1), "a list that is not whole drops nothing");
    let changed = services.apply(Event::InitDone(Collection::Services));
    assert!(changed.problems && changed.ports.iter().eq([&key("b", "")]), "{changed:?}");
    assert_eq!(services.problems().len(), 0, "an object that was faulty is gone too");
    assert!(!services.is_listed(), "the slices are not listed");
    services.apply(Event::InitDone(Collection::Slices));
    assert!(!services.is_listed(), "the Node is not listed");
    services.apply(Event::InitDone(Collection::Nodes));
    assert!(services.is_listed());
    assert_eq!(cluster(&services, &key("a", "")), ["10.244.0.1:8080"], "the slice is of another collection");
}

#[test]
fn another_zone_of_the_node_concerns_services_with_hints() {
    let mut services = Services::new("n1");
    services.apply(service("a", vec![port("a", "", 1)]));
    services.apply(service("b", vec![port("b", "", 2)]));
    let hinted = |last, zone: &str| Endpoint { zone_hints: Box::new([zone.into()]), ..endpoint(last) };
    services.apply(slice("a-1", "a", "", vec![hinted(1, "z1"), hinted(2, "z2")]));
    services.apply(slice("b-1", "b", "", vec![endpoint(3)]));
    let node = |zone: &str| Node { name: "n1".into(), zone: Some(zone.into()), ..Node::default() };
    let changed = services.apply(Event::Set(Object::Node(node("z2")), Vec::new()));
    assert!(changed.node && changed.ports.iter().eq([&key("a", "")]), "{changed:?}");
    assert_eq!(cluster(&services, &key("a", "")), ["10.244.0.2:8080"]);
    let changed = services.apply(Event::Unset(ObjectName::Node("n1".into()), Vec::new()));
    assert!(changed.node && changed.ports.len() == 1);
    assert_eq!(cluster(&services, &key("a", "")).len(), 2);
}

#[test]
fn ranges_of_all_service_cidrs_are_one_set() {
    let mut services = Services::new("n1");
    let ranges = |text: &str| text.split(' ').map(|range| range.parse().expect("a range")).collect::<Vec<Prefix>>();
    let set = |name: &str, text| Event::Set(Object::ServiceCidr(name.into(), ranges(text)), Vec::new());
    assert!(services.apply(set("a", "10.96.0.0/16 fd00::/108")).service_cidrs);
    assert!(services.apply(set("b", "10.96.0.0/16 10.97.0.0/16")).service_cidrs);
    assert!(services.apply(set("b", "10.96.0.0/16 10.97.0.0/16")).is_empty());
    assert_eq!(services.service_cidrs().len(), 3);
    assert!(services.apply(Event::Unset(ObjectName::ServiceCidr("b".into()), Vec::new())).service_cidrs);
    assert_eq!(services.service_cidrs().len(), 2);
}

/// Everything that the state says.
fn view(services: &Services) -> (BTreeMap<PortKey, Resolved>, Vec<String>, usize) {
    let keys = services.ports().map(|port| port.key());
    let resolved = keys.filter_map(|key| Some((key.clone(), services.resolve(&key)?))).collect();
    (resolved, services.problems().iter().map(ToString::to_string).collect(), services.entries.len())
}

/// A port's number, the ends of its addresses, its node port, its age, and which other fields it has.
type AnyPort = (usize, u8, Option<u16>, [Option<u8>; 2], Option<i64>, [bool; 4]);

fn any_port() -> impl Strategy<Value = AnyPort> {
    let address = || prop::option::of(1..5u8);
    let node_port = prop::option::of(30000..30002u16);
    (0..3usize, 1..4u8, node_port, [address(), address()], prop::option::of(0..3i64), any::<[bool; 4]>())
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let hint = || prop::option::of(prop::sample::select(vec!["n1", "z1", "z2"]));
    (1..5u8, any::<[bool; 4]>(), hint(), hint()).prop_map(
        |(last, [is_local, ready, serving, terminating], zone, node)| {
            let hints = |hint: Option<&str>| hint.into_iter().map(Arc::from).collect();
            Endpoint {
                is_local,
                ready,
                serving,
                terminating,
                zone_hints: hints(zone),
                node_hints: hints(node),
                ..endpoint(last)
            }
        },
    )
}

/// The state of one object: its last event is the one that counts.
pub(crate) fn any_object() -> impl Strategy<Value = Event> {
    let names = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let service = (names(), prop::collection::vec(any_port(), 0..3)).prop_map(|(name, ports)| {
        let mut seen = BTreeSet::new();
        let ports = ports.into_iter().filter(|(port_name, ..)| seen.insert(*port_name));
        let ports =
            ports.map(|(port_name, last, node_port, [external, balanced], created, [a, b, c, d])| ServicePort {
                port: 80 + u16::try_from(port_name).expect("small"),
                node_port,
                external_ips: external.map(|last| [10, 96, 0, last].into()).into_iter().collect(),
                load_balancer_ips: balanced.map(|last| [10, 97, 0, last].into()).into_iter().collect(),
                source_ranges: a.then(|| vec!["203.0.113.0/25".parse().expect("a range")]),
                external_policy: if b { Policy::Local } else { Policy::Cluster },
                internal_policy: if c { Policy::Local } else { Policy::Cluster },
                affinity: d.then_some(std::time::Duration::from_mins(1)),
                created: created.map(|second| jiff::Timestamp::from_second(second).expect("a time")),
                ..port(name, ["", "x", "y"][port_name], last)
            });
        let ports: Vec<_> = ports.collect();
        if ports.is_empty() {
            Event::Unset(ObjectName::Service(ServiceName::new("ns", name)), Vec::new())
        } else {
            self::service(name, ports)
        }
    });
    let slice = (names(), names(), 0..3usize, prop::collection::vec(any_endpoint(), 0..4), any::<bool>()).prop_map(
        |(name, service, port, endpoints, is_gone)| {
            if is_gone { gone(name) } else { self::slice(name, service, ["", "x", "y"][port], endpoints) }
        },
    );
    let node = prop::option::of(prop::sample::select(vec!["z1", "z2"])).prop_map(|zone| {
        Event::Set(Object::Node(Node { name: "n1".into(), zone: zone.map(Arc::from), ..Node::default() }), Vec::new())
    });
    prop_oneof![4 => service, 6 => slice, 1 => node]
}

pub(crate) fn name_of(event: &Event) -> Option<ObjectName> {
    match event {
        Event::Set(object, _) => Some(object.name()),
        Event::Unset(name, _) => Some(name.clone()),
        _ => None,
    }
}

proptest! {
    /// What is said about ports that did not change must be true: a port that is not named resolves as before.
    #[test]
    fn a_change_names_every_port_that_resolves_otherwise(events in prop::collection::vec(any_object(), 0..40)) {
        let mut services = Services::new("n1");
        let mut known = BTreeMap::new();
        for event in events {
            let problems = view(&services).1;
            let changed = services.apply(event);
            for key in changed.ports {
                match services.resolve(&key) {
                    Some(resolved) => known.insert(key, resolved),
                    None => known.remove(&key),
                };
            }
            let (resolved, now, _) = view(&services);
            prop_assert_eq!(&known, &resolved);
            prop_assert!(changed.problems || problems == now, "{:?} became {:?} untold", problems, now);
        }
    }

    /// Only the last event of each object counts, in whatever order the objects come.
    #[test]
    fn any_order_of_events_ends_in_the_same_state(
        events in prop::collection::vec(any_object(), 0..40),
        seeds in prop::collection::vec(any::<u64>(), 40),
    ) {
        let mut services = Services::new("n1");
        let mut last = BTreeMap::new();
        for event in events {
            last.insert(name_of(&event), event.clone());
            services.apply(event);
        }
        let mut shuffled: Vec<_> = last.into_values().zip(seeds).collect();
        shuffled.sort_by_key(|(_, seed)| *seed);
        let mut other = Services::new("n1");
        for (event, _) in shuffled {
            other.apply(event);
        }
        prop_assert_eq!(view(&services), view(&other));
        prop_assert_eq!(services.claims.conflicts().count(), other.claims.conflicts().count());
    }
}
