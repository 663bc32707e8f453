use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::{Address, fake};
use serde_json::{Value, json};
use tokio::sync::watch as channel;
use tokio::time;

use super::*;
use crate::problem::Problems;
use crate::services::Services;

/// An API server with objects, by the path of their kind. Each answer ends at once, as if the connection broke.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, Vec<Value>>,
    /// The API server is away.
    is_away: bool,
    /// What was asked for.
    lines: Vec<String>,
    /// How often each path was asked for in vain.
    refusals: BTreeMap<String, u32>,
}

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const NODES: &str = "/api/v1/nodes";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const PATHS: [&str; 4] = [SERVICES, SLICES, NODES, RANGES];

impl Cluster {
    fn answer(&mut self, line: &str) -> (u16, String) {
        self.lines.push(line.to_owned());
        let (path, query) = line.trim_start_matches("GET ").split_once('?').unwrap_or((line, ""));
        if self.is_away {
            *self.refusals.entry(path.to_owned()).or_default() += 1;
            return fake::refusal(503, "it is away");
        }
        if !query.contains("sendInitialEvents=true") {
            return fake::refusal(410, "too old resource version");
        }
        let added = |object: &Value| json!({"type": "ADDED", "object": object}).to_string();
        let mut lines: Vec<String> = self.objects.get(path).into_iter().flatten().map(added).collect();
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let end =
            json!({"kind": "K", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "annotations": annotations}});
        lines.push(json!({"type": "BOOKMARK", "object": end}).to_string());
        (200, lines.join("\n"))
    }
}

fn service(name: &str, address: &str) -> Value {
    let port = json!({"port": 80, "protocol": "TCP"});
    let spec = json!({"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": [port]});
    json!({"metadata": {"name": name, "namespace": "default", "resourceVersion": "1"}, "spec": spec})
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoint = |address: &&str| json!({"addresses": [address], "nodeName": "n1"});
    json!({
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default", "resourceVersion": "1",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A cluster that is followed, and the state that its events make.
struct Followed {
    cluster: Arc<Mutex<Cluster>>,
    /// Changes with each request.
    requests: channel::Receiver<()>,
    events: mpsc::Receiver<Vec<Event>>,
    services: Services,
    /// What is logged.
    log: Vec<String>,
    problems: Problems,
}

impl Followed {
    async fn new() -> Self {
        let mut cluster = Cluster::default();
        let node = json!({"metadata": {"name": "n1", "resourceVersion": "1"}, "spec": {"podCIDR": "10.244.1.0/24"}});
        let range =
            json!({"metadata": {"name": "kubernetes", "resourceVersion": "1"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
        for (path, objects) in [
            (SERVICES, vec![service("a", "10.96.0.1"), service("b", "10.96.0.2")]),
            (SLICES, vec![slice("a", &["10.244.1.2"]), slice("b", &["10.244.1.3"])]),
            (NODES, vec![node]),
            (RANGES, vec![range]),
        ] {
            cluster.objects.insert(path.to_owned(), objects);
        }
        let cluster = Arc::new(Mutex::new(cluster));
        let (changed, requests) = channel::channel(());
        let answering = Arc::clone(&cluster);
        let url = fake::serve_with(move |request| {
            let answer = answering.lock().expect("the cluster").answer(&request.line);
            changed.send_replace(());
            answer
        })
        .await;
        let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
        let events = follow(&server, "n1");
        let services = Services::new("n1");
        Self { cluster, requests, events, services, log: Vec::new(), problems: Problems::new() }
    }

    /// Waits until the state is as expected.
    async fn until(&mut self, what: &str, expected: impl Fn(&Services) -> bool) {
        while !expected(&self.services) {
            let events = time::timeout(Duration::from_secs(30), self.events.recv()).await;
            for event in events.unwrap_or_else(|_| panic!("{what}: {:?}", self.services)).expect("a live source") {
                self.services.apply(event);
                let problems = self.services.problems();
                let changes = reconcile::problem::changes(&self.problems, &problems);
                self.log.extend(changes.new.iter().map(ToString::to_string));
                self.log.extend(changes.over.iter().map(|problem| format!("over: {}", problem.subject)));
                self.problems = problems;
            }
        }
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("the cluster")
    }
}

/// Each service port, with its endpoints.
fn ports(services: &Services) -> Vec<String> {
    let endpoints = |port: &crate::model::ServicePort| {
        let states = services.endpoints(&port.key());
        states.iter().map(|state| state.address.to_string()).collect::<Vec<_>>().join(" ")
    };
    services.ports().map(|port| format!("{} {} -> {}", port.name, port.cluster_ip, endpoints(port))).collect()
}

const BOTH: [&str; 2] = ["default/a 10.96.0.1 -> 10.244.1.2:8080", "default/b 10.96.0.2 -> 10.244.1.3:8080"];

fn is_known(services: &Services) -> bool {
    services.is_listed() && ports(services) == BOTH && services.node().is_some() && !services.service_cidrs().is_empty()
}

#[tokio::test]
async fn the_four_kinds_are_asked_for_by_selectors_and_make_the_state() {
    let mut followed = Followed::new().await;
    followed.until("all four kinds", is_known).await;
    let node = followed.services.node().expect("the Node");
    assert_eq!(node.pod_cidrs.iter().map(|(_, range)| range.to_string()).collect::<Vec<_>>(), ["10.244.1.0/24"]);
    let ranges: Vec<_> = followed.services.service_cidrs().iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/16"]);
    let lines = followed.cluster().lines.clone();
    let selector = |path: &str| {
        let list = lines.iter().find(|line| line.starts_with(&format!("GET {path}?"))).expect(path);
        let query = list.split(['?', '&']).filter(|pair| pair.contains("Selector="));
        query.map(str::to_owned).collect::<Vec<_>>()
    };
    let labels = "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name%2C%21service.kubernetes.io%2Fheadless";
    assert_eq!(selector(SERVICES), [labels]);
    assert_eq!(selector(SLICES), [labels]);
    assert_eq!(selector(NODES), ["fieldSelector=metadata.name%3Dn1"]);
    assert_eq!(selector(RANGES), Vec::<String>::new());
    assert_eq!(followed.log, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_missed_during_an_outage_goes_and_the_outage_is_told_once() {
    let mut followed = Followed::new().await;
    followed.until("all four kinds", is_known).await;
    followed.cluster().is_away = true;
    followed.until("the problem", |services| !services.problems().is_empty()).await;
    // Every watch has found it, and has tried again.
    let mut requests = followed.requests.clone();
    let cluster = Arc::clone(&followed.cluster);
    let is_retried = move |(): &()| {
        let refusals = &cluster.lock().expect("the cluster").refusals;
        PATHS.iter().all(|path| refusals.get(*path).is_some_and(|count| *count >= 2))
    };
    let retried = requests.wait_for(is_retried);
    time::timeout(Duration::from_secs(30), retried).await.expect("a retry of each").expect("a live server");
    assert_eq!(ports(&followed.services), BOTH, "what is known stays");
    {
        let mut cluster = followed.cluster();
        cluster.objects.insert(SERVICES.to_owned(), vec![service("a", "10.96.0.1")]);
        cluster.objects.insert(SLICES.to_owned(), vec![slice("a", &["10.244.1.9"])]);
        cluster.is_away = false;
    }
    let expected = ["default/a 10.96.0.1 -> 10.244.1.9:8080"];
    followed.until("what is there now", |services| ports(services) == expected && services.problems().is_empty()).await;
    assert_eq!(followed.log.len(), 2, "{:#?}", followed.log);
    assert!(followed.log[0].starts_with("the API server cannot be followed"), "{:#?}", followed.log);
    assert_eq!(followed.log[1], "over: the API server");
}
