//! The cases of `cases/`, traced on paper. Each table is built twice, change by change and from nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dataplane::types::{Family, Prefix};

use super::super::{LocalPods, NodePorts, Ruleset, Settings};
use super::apply;
use crate::loopback::Wanted;
use crate::model::{Event, Node, Object, ObjectName, ServiceName, SliceName};
use crate::services::Services;
use crate::source::objects::{EndpointSliceObject, ServiceObject};
use crate::trace::{End, Packet, trace};

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../../cases/", $name)))),*] };
}

const CASES: [(&str, &str); 15] = files!("loopback.cases" "f1.cases" "f2.cases" "f3.cases" "f4.cases" "f5.cases" "f6.cases" "f7.cases" "f8.cases"
    "readiness.cases" "hints.cases" "excluded.cases" "load-balancers.cases" "leading-zeros.cases" "bad-input.cases");

const OBJECTS: [(&str, &str); 17] = files!("f1.yaml" "f2.yaml" "f2-slice.yaml" "f3.yaml" "f4.yaml" "f4-udp.yaml" "f5.yaml"
    "f5-cluster.yaml" "f6.yaml" "f7.yaml" "f7-local.yaml" "f7-two.yaml" "f7-none.yaml" "f8.yaml" "f8-53.yaml" "f8-54.yaml" "f8-55.yaml");

const MORE: [(&str, &str); 16] = files!("loopback-remote.yaml" "f8-cluster.yaml" "f8-57.yaml" "affinity.yaml" "readiness.yaml" "readiness-none.yaml"
    "readiness-published.yaml" "hints.yaml" "excluded.yaml" "excluded-label.yaml" "excluded-headless-label.yaml" "excluded-external-name.yaml"
    "excluded-headless.yaml" "load-balancers.yaml" "leading-zeros.yaml" "bad-input.yaml");

const NODE: &str = "test-node";

/// What a case file has set up so far.
pub(super) struct World {
    services: Services,
    pub(super) rulesets: [Ruleset; 2],
    wanted: Wanted,
    /// The endpoints of each listener on loopback.
    listeners: BTreeMap<SocketAddr, Box<[SocketAddr]>>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut services = Services::new(NODE);
        let node = Node { name: NODE.into(), zone: Some("zone-a".into()), ..Node::default() };
        services.apply(Event::Set(Object::Node(node), Vec::new()));
        let rulesets = Family::BOTH.map(|family| Ruleset::new(settings(family)));
        Self { services, rulesets, wanted: Wanted::new(Family::BOTH.into()), listeners: BTreeMap::new() }
    }

    fn take(&mut self, event: Event) {
        let changed = self.services.apply(event).ports;
        for ruleset in &mut self.rulesets {
            let family = ruleset.settings().family;
            let ports = changed.iter().filter(|key| key.family == family);
            let ports = ports.map(|key| (key.clone(), self.services.resolve(key))).collect();
            for (address, backend) in self.wanted.update(&ports) {
                match backend {
                    Some(backend) => self.listeners.insert(address, backend.endpoints),
                    None => self.listeners.remove(&address),
                };
            }
            let before = ruleset.table();
            let change = ruleset.update(&ports);
            assert_eq!(apply(before, &change, ruleset), ruleset.table(), "{changed:?}: {change:?}");
        }
    }

    pub(super) fn apply_file(&mut self, name: &str) {
        let (_, text) = OBJECTS.iter().chain(&MORE).find(|(file, _)| *file == name).expect("a file of cases/");
        for document in text.split("---\n") {
            let converted = if document.contains("kind: Service\n") {
                serde_saphyr::from_str::<ServiceObject>(document).expect("a Service").convert()
            } else {
                serde_saphyr::from_str::<EndpointSliceObject>(document).expect("an EndpointSlice").convert(NODE)
            };
            self.take(converted.event(|_| None));
        }
    }

    fn delete(&mut self, kind: &str, name: &str) {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        let name = match kind {
            "Service" => ObjectName::Service(ServiceName::new(namespace, name)),
            _ => ObjectName::Slice(SliceName { namespace: namespace.into(), name: name.into() }),
        };
        self.take(Event::Unset(name, Vec::new()));
    }

    pub(super) fn set(&mut self, name: &str, values: &[&str]) {
        for ruleset in &mut self.rulesets {
            let mut settings = ruleset.settings().clone();
            let family = settings.family;
            match (name, values) {
                ("local-pods", ["none"]) => settings.local_pods = None,
                ("local-pods", [range]) => {
                    let range: Prefix = range.parse().expect("a range");
                    settings.local_pods = (range.family() == family).then_some(LocalPods::Range(range));
                }
                ("loopback", [value]) => settings.has_loopback = *value == "true",
                ("masquerade-all", [value]) => settings.masquerade_all = *value == "true",
                ("node-ports", ["all"]) => settings.node_ports = NodePorts::All,
                ("node-ports", addresses) => {
                    let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().expect("an address"));
                    let own = addresses.filter(|address| Family::of(*address) == family).map(Prefix::host).collect();
                    settings.node_ports = NodePorts::Within(own);
                }
                other => panic!("no such setting: {other:?}"),
            }
            ruleset.reset(settings);
        }
    }

    /// What becomes of packets, in the words of the cases.
    pub(super) fn trace(&self, source: &str, destination: &str) -> String {
        let (destination, protocol) = destination.split_once('/').expect("DESTINATION/PROTOCOL");
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            _ => 132,
        };
        let destination = socket_address(destination);
        let source = SocketAddr::new(address(source), 40_000);
        let own: BTreeSet<IpAddr> = ["N", "N2", "N6", "N26"].map(address).into();
        let is_own = own.contains(&source.ip());
        let input = (!is_own).then(|| "eth0".parse().expect("a name"));
        let packet = Packet { source, destination, protocol, input };
        let ruleset =
            self.rulesets.iter().find(|one| one.settings().family == Family::of(source.ip())).expect("a table");
        let mut ends: Vec<End> = trace(&ruleset.table(), &packet, &own).into_iter().map(|way| way.end).collect();
        ends.sort();
        ends.dedup();
        let untouched = End::Passed { to: destination, masqueraded: false };
        match ends.as_slice() {
            [End::Rejected] => "reject".to_owned(),
            [End::Dropped] => "drop".to_owned(),
            [end] if *end == untouched && destination.ip().is_loopback() && protocol == 6 => {
                let listener = self.listeners.get(&destination).filter(|_| ruleset.settings().has_loopback);
                let endpoints = listener.into_iter().flatten().map(SocketAddr::to_string);
                let last = if listener.is_some() { "listener" } else { "closed" };
                endpoints.chain([last.to_owned()]).collect::<Vec<_>>().join(" ")
            }
            [end] if *end == untouched => "untouched".to_owned(),
            ends => {
                let mut words: Vec<String> = Vec::new();
                let mut last = BTreeSet::new();
                for end in ends {
                    match end {
                        End::Passed { to, masqueraded } => {
                            words.push(to.to_string());
                            last.insert(if *masqueraded { "masquerade" } else { "keep" }.to_owned());
                        }
                        other => drop(last.insert(format!("{other:?}"))),
                    }
                }
                words.into_iter().chain(last).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn settings(family: Family) -> Settings {
    let of_family = |texts: [&str; 2]| {
        texts.map(|text| text.parse::<Prefix>().expect("a range")).into_iter().find(|range| range.family() == family)
    };
    let node = address(if family == Family::V4 { "N" } else { "N6" });
    Settings {
        family,
        table: "netd-proxy".to_owned(),
        local_pods: of_family(["10.0.0.0/8", "fd00:10::/32"]).map(LocalPods::Range),
        masquerade_all: false,
        masquerade_mark: 0x4000,
        node_ports: NodePorts::Within([Prefix::host(node)].into()),
        has_loopback: false,
        node_address: Some(node),
        service_cidrs: of_family(["172.30.0.0/16", "fd00:172:30::/112"]).into_iter().collect(),
    }
}

fn address(name: &str) -> IpAddr {
    let text = match name {
        "P" => "10.0.0.2",
        "N" => "192.168.0.2",
        "N2" => "192.168.1.2",
        "X" => "203.0.113.2",
        "XB" => "203.0.113.130",
        "N6" => "2001:db8::1",
        "N26" => "2001:db8:1::2",
        "X6" => "2600:5200::1",
        other => other,
    };
    text.parse().expect("an address")
}

fn socket_address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        let (name, port) = text.rsplit_once(':').expect("ADDRESS:PORT");
        SocketAddr::new(address(name), port.parse().expect("a port"))
    })
}

#[test]
fn packets_become_what_the_cases_say() {
    let mut faults = Vec::new();
    let mut count = 0;
    for (file, text) in CASES {
        let mut world = World::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["apply", name] => world.apply_file(name),
                ["delete", kind, name] => world.delete(kind, name),
                ["set", name, values @ ..] => world.set(name, values),
                [_, source, "->", destination, "=>", expected @ ..] => {
                    count += 1;
                    let found = world.trace(source, destination);
                    if found != expected.join(" ") {
                        faults.push(format!("{file}: {line}\n    found: {found}"));
                    }
                }
                other => panic!("{file}: no such line: {other:?}"),
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} cases differ:\n{}", faults.len(), faults.join("\n"));
}
