//! Files of Services and `EndpointSlices`, changed at random, beside a file that is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use libtest_mimic::Trial;
use proxy::model::{PortKey, ServicePort};
use proxy::problem::Kind;
use proxy::services::Services;
use proxy::source::directory::Files;
use proxy::topology::Resolved;
use tempfile::TempDir;

const NODE: &str = "test-node";
/// The file that is changed.
const CHANGED: &str = "changed.yaml";

/// In a file of its own; no seed has any of its names and addresses.
const UNRELATED: &str = r#"{ "apiVersion": "v1", "kind": "List", "items": [
  { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "unrelated", "namespace": "elsewhere" },
    "spec": { "clusterIP": "172.31.255.254", "ports": [{ "name": "p", "port": 65001 }] } },
  { "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "unrelated-1", "namespace": "elsewhere",
    "labels": { "kubernetes.io/service-name": "unrelated" } }, "addressType": "IPv4", "ports": [{ "name": "p", "port": 65002 }],
    "endpoints": [{ "addresses": ["172.31.255.1"] }] } ] }"#;

const JSON: &str = r#"{ "apiVersion": "v1", "kind": "List", "items": [
  { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "creationTimestamp": "2026-01-02T03:04:05Z" },
    "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
    "externalIPs": ["192.0.2.9"], "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
    "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000, "loadBalancerSourceRanges": ["198.51.100.0/24"],
    "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080 }, { "name": "dns", "protocol": "UDP", "port": 53 }] },
    "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }, { "hostname": "lb.example" }] } } },
  { "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "web-1",
    "labels": { "kubernetes.io/service-name": "web" } }, "addressType": "IPv6", "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
    "endpoints": [{ "addresses": ["fd00:244::2"], "nodeName": "test-node", "hints": { "forZones": [{ "name": "z" }] },
    "conditions": { "ready": false, "serving": true, "terminating": true } }] },
  { "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/16"] } },
  { "apiVersion": "v1", "kind": "Node", "metadata": { "name": "test-node", "labels": { "topology.kubernetes.io/zone": "z" } },
    "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.2" }] } } ] }"#;

macro_rules! cases {
    ($($name:literal)*) => { [$(include_str!(concat!("../../../proxy/cases/", $name))),*] };
}

/// Real objects, as YAML and JSON.
const SEEDS: [&str; 7] =
    cases!("f1.yaml" "f3.yaml" "f4.yaml" "f8.yaml" "hints.yaml" "leading-zeros.yaml" "affinity.yaml");

/// What is served: the service ports, and where packets to them go.
type Served = BTreeMap<PortKey, (ServicePort, Option<Resolved>)>;

fn served(services: &Services) -> Served {
    let state = |port: &ServicePort| (port.clone(), services.resolve(&port.key()));
    services.ports().map(|port| (port.key(), state(port))).collect()
}

/// A directory that is read, and the state of what it says.
struct Followed {
    files: Files,
    services: Services,
}

impl Followed {
    fn of(dir: &Path) -> Self {
        let mut followed = Self { files: Files::new(dir.to_owned(), NODE), services: Services::new(NODE) };
        followed.read();
        followed
    }

    fn read(&mut self) {
        for event in self.files.read_all(Instant::now()) {
            self.services.apply(event);
        }
    }
}

/// The fuzz target.
pub(crate) fn trial() -> Trial {
    let seeds: Vec<Vec<u8>> = SEEDS.iter().chain([&JSON]).map(|seed| seed.as_bytes().to_vec()).collect();
    let firsts = seeds.clone();
    super::bytes_of(
        "Services and EndpointSlices",
        move || Ok(seeds),
        move |input| {
            let dir = TempDir::new().expect("a directory");
            std::fs::write(dir.path().join("a.json"), UNRELATED).expect("a file");
            replace(dir.path(), &firsts[input.len() % firsts.len()], input);
        },
    )
}

/// A file that is read is replaced by another one.
fn replace(dir: &Path, first: &[u8], second: &[u8]) {
    std::fs::write(dir.join(CHANGED), first).expect("a file");
    let mut followed = Followed::of(dir);
    let before = served(&followed.services);
    assert!(followed.services.problems().is_empty(), "the seeds are right: {:?}", followed.services.problems());
    std::fs::write(dir.join("new"), second).expect("a file");
    std::fs::rename(dir.join("new"), dir.join(CHANGED)).expect("a file in place of another one");
    followed.read();
    let after = served(&followed.services);
    let of = |served: &Served, service: &str| -> Served {
        let ports = served.iter().filter(|(key, _)| key.name.service.to_string() == service);
        ports.map(|(key, state)| (key.clone(), state.clone())).collect()
    };
    assert_eq!(
        of(&before, "elsewhere/unrelated"),
        of(&after, "elsewhere/unrelated"),
        "the other file's are served as before"
    );
    let mut is_partial = false;
    for problem in &followed.services.problems() {
        let text = problem.to_string();
        let object = problem.subject.split_once(" of ");
        match problem.kind {
            Kind::InvalidFile
                if problem.detail.starts_with("is not valid")
                    || problem.detail.starts_with("cannot be read: stream") =>
            {
                is_partial = true;
                assert!(problem.subject.contains(CHANGED), "the file is named: {text}");
                assert_eq!(before, after, "what was served before stays: {text}");
            }
            Kind::InvalidFile if problem.detail.starts_with("cannot be read: ") => {
                is_partial = true;
                let Some((field, object)) = object else {
                    assert_eq!(before, after, "what was served before stays: {text}");
                    continue;
                };
                assert!(
                    !field.is_empty() && object.contains(&format!("({CHANGED}:")),
                    "field and place are named: {text}"
                );
                if let Some(service) = object.strip_prefix("Service ") {
                    let service = service.split(' ').next().unwrap_or_default();
                    let ports = |served| {
                        of(served, service).into_iter().map(|(key, (port, _))| (key, port)).collect::<Vec<_>>()
                    };
                    assert_eq!(ports(&before), ports(&after), "an object that cannot be read stays as it was: {text}");
                }
            }
            Kind::InvalidField => {
                let (field, object) = object.unwrap_or_default();
                assert!(
                    !field.is_empty() && object.contains(&format!("({CHANGED}:")),
                    "field and place are named: {text}"
                );
            }
            _ => {}
        }
    }
    if !is_partial {
        let mut fresh = Followed::of(dir);
        assert_eq!(served(&fresh.services), after, "a change ends where a start with the new file does");
        fresh.read();
        assert_eq!(served(&fresh.services), after, "nothing has changed since");
    }
}
