//! The status as runs leave it, in each form. The network is that of the overlay's tests, node 1 seen from inside.

use std::time::Duration;

use dataplane::fake::Fake;
use network::fixtures::{DUAL, Network, Peer as Other, V4, far, near, node_name, vxlan};
use network::key::Key;
use network::model::BackendType;
use network::observe;
use network::plan::Plan;
use serde_json::json;

use super::metrics::Metrics;
use super::offline::{Device, OfflineStatus};
use super::run::{Run, Scope};
use super::*;
use crate::problem;
use crate::reconcile::{self, Deferred, Trigger, problems};

/// 2026-02-28T23:59:00Z.
const START: Timestamp = Timestamp::constant(1_772_323_140, 0);

fn after(seconds: u64, start: Timestamp) -> Timestamp {
    start + Duration::from_secs(seconds)
}

/// A netd in a kernel that is not there.
struct Scene {
    network: Network,
    kernel: Fake,
    status: Status,
    metrics: Metrics,
    now: Timestamp,
}

impl Scene {
    fn of(network: Network) -> Self {
        let kernel = network.fake();
        Self { network, kernel, status: Status::new(START), metrics: Metrics::default(), now: START }
    }

    /// Reconciles `seconds` after the last time.
    fn run(&mut self, trigger: Trigger, seconds: u64) {
        self.now = after(seconds, self.now);
        let outcome = self.network.outcome(&mut self.kernel).expect("a network that can be carried");
        let identity = self.network.identity();
        let host = observe::host(&mut self.kernel, &identity).expect("a readable kernel");
        let observed =
            observe::observed(&mut self.kernel, host, &identity, &outcome.desired).expect("a readable kernel");
        let plan = Plan::diff(&observed, &outcome.desired, &identity);
        let report = reconcile::apply(&mut self.kernel, plan);
        let found = &problems::of_run(&report, &outcome, &self.network.cluster().peers);
        let (node, cluster) = (&Node::from(&self.network), &self.network.cluster());
        let (took, report, outcome) = (Duration::from_millis(4), &report, &outcome);
        let run = Run {
            trigger,
            took,
            scope: Scope::Full { rejected: &[], problems: found, published: true },
            node,
            cluster,
            outcome,
            report,
            deferred: &Deferred::default(),
        };
        self.metrics.time(run.trigger, run.took);
        self.status.reconciled(&run, self.now);
    }

    fn route(&self, n: u8) -> &RouteStatus {
        &self.status.peers[node_name(n).as_str()].routes[0]
    }

    fn metric(&self, name: &str) -> String {
        let text = self.metrics.text(&self.status);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).to_owned()
    }
}

fn direct_routing() -> Network {
    vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([
        near(2),
        far(3),
        Other { backend: Some(BackendType::HostGw), ..near(4) },
    ])
}

#[test]
fn a_person_sees_the_node_its_peers_and_why() {
    let mut scene = Scene::of(direct_routing());
    scene.run(Trigger::Startup, 1);
    scene.kernel.routes.retain(|route| !route.destination.to_string().starts_with("10.244.2."));
    scene.run(Trigger::KernelChanged, 10);
    scene.status.store.last_event = Some(START);
    let table = table::running(&scene.status, after(5, scene.now));
    let expected = "\
netd 0.1.0 on node-1: ready
backend     vxlan, VNI 1, port 8472, DirectRouting
subnets     10.244.1.0/24 fd00:10:0:1::/64
interface   eth0, MTU 1500 (pods 1430), 192.168.1.1 fd00:1::1
reconciled  5s ago in 4 ms (kernel changed): 1 changed, 0 failed
repairs     1 add_route
store       followed; last event 16s ago
running     for 16s

NODE    SUBNET            WAY                     FOR  WHY
node-2  10.244.2.0/24     direct via 192.168.1.2  15s  on this node's link (DirectRouting)
        fd00:10:0:2::/64  direct via fd00:1::2    15s  on this node's link (DirectRouting)
node-3  10.244.3.0/24     tunnel to 192.168.2.3   15s  not on this node's link
        fd00:10:0:3::/64  tunnel to fd00:2::3     15s  not on this node's link
node-4  10.244.4.0/24     none                    15s  it runs backend host-gw, this node vxlan: set one Backend.Type for all nodes
        fd00:10:0:4::/64  none                    15s  it runs backend host-gw, this node vxlan: set one Backend.Type for all nodes

PROBLEMS
15s  IPv4 pods of node node-4 cannot be reached: it runs backend host-gw, this node vxlan: set one Backend.Type for all nodes
15s  IPv6 pods of node node-4 cannot be reached: it runs backend host-gw, this node vxlan: set one Backend.Type for all nodes
";
    assert_eq!(table, expected);
}

#[test]
fn a_netd_that_waits_says_for_what_on_the_first_line() {
    let mut status = Status::new(START);
    assert_eq!(status.waits_for(), None);
    status.store.trouble = Some(StoreTrouble { what: "node \"n1\" pod cidr not assigned".to_owned(), since: START });
    let table = table::running(&status, after(7, START));
    let first = "netd 0.1.0: waiting: node \"n1\" pod cidr not assigned\n";
    assert!(
        table.starts_with(first) && table.contains("store       not usable for 7s: see the first line\n"),
        "{table}"
    );
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    scene.status.store.trouble = Some(StoreTrouble { what: "it is gone".to_owned(), since: START });
    assert_eq!(scene.status.waits_for(), None, "a network that is there goes on");
    assert!(table::running(&scene.status, scene.now).starts_with("netd 0.1.0 on node-1: ready\n"));
}

#[test]
fn a_document_is_read_as_it_was_written() {
    let mut scene = Scene::of(direct_routing());
    scene.run(Trigger::Startup, 1);
    scene.status.store.trouble = Some(StoreTrouble { what: "it is gone".to_owned(), since: START });
    let document = serde_json::to_string(&scene.status).expect("a document");
    assert_eq!(serde_json::from_str::<Status>(&document).expect("a status"), scene.status);
    let way = &serde_json::to_value(&scene.status).expect("a document")["peers"]["node-3"]["ways"][0];
    let expected = json!({
        "subnet": "10.244.3.0/24", "way": "tunnel", "to": "192.168.2.3", "why": "not on this node's link",
        "programmed": true, "since": "2026-02-28T23:59:01Z",
    });
    assert_eq!(*way, expected);
}

#[test]
fn a_way_keeps_its_age_until_it_is_another() {
    let mut scene = Scene::of(vxlan(V4, V4).with(r#""DirectRouting": true"#).peers([near(2), far(3)]));
    scene.run(Trigger::Startup, 1);
    let (first, other) = (scene.route(2).clone(), scene.route(3).clone());
    scene.run(Trigger::Periodic, 10);
    assert_eq!((scene.route(2), scene.route(3)), (&first, &other), "nothing has happened");
    scene.network = scene.network.clone().peers([far(2), far(3), near(5)]);
    scene.run(Trigger::StoreChanged, 10);
    assert_eq!((scene.route(2).kind, scene.route(2).since), (RouteKind::Tunnel, scene.now), "node 2 has moved");
    assert_eq!((scene.route(3), scene.route(5).since), (&other, scene.now), "node 5 is new");
    scene.network = scene.network.clone().peers([far(3)]);
    scene.run(Trigger::StoreChanged, 10);
    assert_eq!(scene.status.peers.keys().collect::<Vec<_>>(), ["node-3"], "the others have left");
    assert_eq!(scene.route(3), &other);
}

#[test]
fn what_is_refused_of_a_peer_is_its_problem_until_it_is_done() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.kernel.refuse = vec!["fdb replace 0a:00:00:00:00:03".to_owned()];
    scene.run(Trigger::Startup, 1);
    assert!(scene.status.daemon.ready, "an entry of one peer is missing");
    assert_eq!((scene.route(2).programmed, scene.route(3).programmed), (true, false), "it is node 3's");
    assert_eq!((scene.metric("netd_peers_desired"), scene.metric("netd_peers_programmed")), ("2".into(), "1".into()));
    assert_eq!(scene.metric(r#"netd_operation_failures_total{kind="put_fdb"}"#), "1");
    let known = scene.status.problems.clone();
    assert_eq!((known.len(), scene.metric("netd_problems")), (1, "1".into()));
    scene.run(Trigger::Retry, 10);
    assert_eq!(scene.status.problems, known, "it is as old as it was");
    scene.kernel.refuse.clear();
    scene.run(Trigger::Retry, 10);
    assert!(scene.status.daemon.ready && scene.route(3).programmed && scene.status.problems.is_empty());
    assert_eq!(scene.metric("netd_ready"), "1");
    assert_eq!(scene.metric(r#"netd_operations_total{kind="put_fdb"}"#), "4", "two, one again, one again");
}

#[test]
fn what_stands_in_the_way_makes_netd_unready() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.kernel.add_link(&"flannel.1".parse().expect("a name"), 1500);
    scene.run(Trigger::Startup, 1);
    assert!(!scene.status.daemon.ready, "the device cannot be made");
    assert!(!scene.route(2).programmed && !scene.route(3).programmed, "and no tunnel goes without it");
    let table = table::running(&scene.status, scene.now);
    assert!(table.starts_with("netd 0.1.0 on node-1: not ready: see PROBLEMS\n"), "{table}");
    assert!(table.contains("tunnel to 192.168.1.2 (not programmed)"), "{table}");
}

#[test]
fn only_what_puts_right_what_was_right_is_a_repair() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    scene.network = scene.network.clone().peers([near(2), far(3), far(4)]);
    scene.run(Trigger::StoreChanged, 1);
    assert!(scene.status.operations.values().all(|count| count.repairs == 0), "{:?}", scene.status.operations);
    scene.kernel.fdb.clear();
    scene.run(Trigger::Periodic, 1);
    assert_eq!(scene.metric(r#"netd_repairs_total{kind="put_fdb"}"#), "3");
    assert_eq!(scene.metric(r#"netd_repairs_total{kind="add_route"}"#), "0");
    assert_eq!(scene.status.operations["put_fdb"], Operations { applied: 6, failed: 0, repairs: 3 });
}

#[test]
fn what_is_undone_again_and_again_is_shown_with_its_counts() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    let key = Key::Route("10.244.2.0/24".parse().expect("a range"));
    let mut contested = ::reconcile::Contested { key, times: 7, next: Some(Duration::from_millis(7900)) };
    let route = dataplane::op::Op::SetSysctl { key: "a".to_owned(), value: "1".to_owned() };
    let begun = BTreeMap::from([("route", 1)]);
    let deferred = Deferred { ops: vec![route], begun, contested: vec![contested.clone()] };
    scene.metrics.deferred(&deferred);
    scene.status.deferred(&deferred, scene.now);
    assert!(!scene.status.daemon.ready, "it is missing");
    let table = table::running(&scene.status, scene.now);
    let expected = "\nCONTESTED\nroute 10.244.2.0/24  put back 7 times  undone, next try in 8s\n";
    assert!(table.contains(expected), "{table}");
    assert_eq!(scene.metric("netd_contested_objects"), "1");
    assert_eq!(scene.metric(r#"netd_repairs_held_total{kind="route"}"#), "1");
    scene.run(Trigger::Retry, 8);
    contested.next = None;
    scene.status.deferred(&Deferred { contested: vec![contested], ..Deferred::default() }, scene.now);
    assert!(
        scene.status.daemon.ready && table::running(&scene.status, scene.now).contains("put back 7 times  in place\n")
    );
    let document = serde_json::to_value(&scene.status).expect("a document");
    assert_eq!(document["contested"], json!({ "route 10.244.2.0/24": { "times": 7 } }));
    scene.status.deferred(&Deferred::default(), scene.now);
    assert_eq!(scene.metric("netd_contested_objects"), "0");
}

#[test]
fn a_run_that_cannot_begin_is_told() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    let problem = Problem::new(problem::Kind::CannotReconcile, "the network", "cannot be reconciled");
    scene.status.gave_up(Trigger::Periodic, Duration::ZERO, problem.clone(), START);
    assert!(!scene.status.daemon.ready);
    assert_eq!(scene.status.problems, [ProblemSince { problem, since: START }]);
}

#[test]
fn metrics_follow_prometheus_rules() {
    let mut scene = Scene::of(direct_routing());
    scene.run(Trigger::Startup, 1);
    let text = scene.metrics.text(&scene.status);
    for line in [
        "# TYPE netd_reconcile_duration_seconds histogram",
        "# UNIT netd_reconcile_duration_seconds seconds",
        r#"netd_reconcile_duration_seconds_bucket{le="0.005",trigger="startup"} 1"#,
        r#"netd_reconcile_duration_seconds_count{trigger="startup"} 1"#,
        r#"netd_peers{family="ipv4",way="direct"} 1"#,
        r#"netd_peers{family="ipv6",way="tunnel"} 1"#,
        r#"netd_peers{family="ipv4",way="none"} 1"#,
        r#"netd_build_info{version="0.1.0"} 1"#,
        "netd_last_full_read_timestamp_seconds 1772323141.0",
        "netd_store_trouble_timestamp_seconds 0.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "the text ends as the format demands");
}

#[test]
fn the_offline_status_begins_with_how_netd_is_known_not_to_run() {
    let mut offline =
        OfflineStatus { why: "nothing answers on /run/netd/netd.sock".to_owned(), ..OfflineStatus::default() };
    assert_eq!(
        table::offline(&offline).lines().next(),
        Some("netd is not running: nothing answers on /run/netd/netd.sock")
    );
    offline.node = Some("n1".to_owned());
    let subnets = vec!["10.244.1.0/24".parse().expect("a range")];
    offline.lease = Some(LeaseStatus { subnets, ..LeaseStatus::default() });
    offline.lease_from = "the store".to_owned();
    let name = "flannel.1".parse().expect("a name");
    offline.devices.push(Device { name, up: true, mtu: 1450, mac: None, fdb: 1, neighbours: 2 });
    offline.routes.push("10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink".to_owned());
    let expected = "\
netd is not running on n1: nothing answers on /run/netd/netd.sock
The data path stays as netd left it, and nothing repairs it. This is what the kernel has:
lease   10.244.1.0/24 (from the store)
routes  1

DEVICE     STATE  MTU   MAC  FDB  NEIGHBOURS
flannel.1  up     1450       1    2

ROUTES
10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink
";
    assert_eq!(table::offline(&offline), expected);
}

#[test]
fn yaml_says_what_json_says() {
    let mut scene = Scene::of(direct_routing());
    scene.run(Trigger::Startup, 1);
    let yaml = serde_saphyr::to_string(&scene.status).expect("a document");
    assert_eq!(serde_saphyr::from_str::<Status>(&yaml).expect("a status"), scene.status, "{yaml}");
    for line in ["ready: true", "  node-3:", "      way: tunnel"] {
        assert!(yaml.lines().any(|found| found == line), "{line} is not in\n{yaml}");
    }
}

#[test]
fn problems_of_the_network_and_of_the_proxy_are_kept_apart() {
    let mut status = Status::new(START);
    status.daemon.ready = true;
    let of = |kind| problem::Problem::new(kind, "the subject", "is wrong");
    let conflict = of(problem::Kind::Service(proxy::problem::Kind::AddressConflict));
    let proxy = |state| ProxyStatus { state, why: None };
    status.set_proxy(proxy(ProxyState::Programmed), &[conflict.clone()].into(), START);
    status.set_problems(&[of(problem::Kind::Conflict)].into(), after(5, START));
    let kinds: Vec<_> = status.problems.iter().map(|known| (known.problem.kind, known.since)).collect();
    assert_eq!(kinds, [(problem::Kind::Conflict, after(5, START)), (conflict.kind, START)], "each with its age");
    assert!(status.is_ready(), "two Services with one address are no matter of readiness");
    status.set_proxy(proxy(ProxyState::NotProgrammed), &problem::Problems::new(), after(6, START));
    assert!(!status.is_ready() && status.daemon.ready, "the pod network is ready, Services are not");
    assert_eq!(status.problems.len(), 1, "the conflict is over");
    assert!(
        table::running(&status, START).contains("not ready: Services are not programmed"),
        "the first line says so"
    );
}
