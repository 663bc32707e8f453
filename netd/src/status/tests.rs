//! The status as runs leave it, in each form. The network is that of the overlay's tests, node 1 seen from inside.

use std::time::Duration;

use dataplane::fake::Fake;
use network::fixtures::{DUAL, Network, Peer as Other, V4, far, near, node_name, vxlan};
use network::model::BackendType;
use network::observe;
use network::patience::{Contested, Held, Object};
use network::plan::Plan;
use serde_json::json;

use super::metrics::Metrics;
use super::remains::Remains;
use super::run::Run;
use super::*;
use crate::problem;
use crate::reconcile::{self, Trigger};

/// 2026-02-28T23:59:00Z.
const START: Moment = Moment(1_772_323_140);

/// A netd in a kernel that is not there.
struct Scene {
    network: Network,
    kernel: Fake,
    status: Status,
    metrics: Metrics,
    now: Moment,
}

impl Scene {
    fn of(network: Network) -> Self {
        let kernel = network.fake();
        Self { network, kernel, status: Status::new(START), metrics: Metrics::new(), now: START }
    }

    /// Reconciles `seconds` after the last time.
    fn run(&mut self, trigger: Trigger, seconds: u64) {
        self.now.0 += seconds;
        let outcome = self.network.outcome(&mut self.kernel).expect("a network that can be carried");
        let identity = self.network.identity();
        let host = observe::host(&mut self.kernel, &identity).expect("a readable kernel");
        let observed =
            observe::observed(&mut self.kernel, host, &identity, &outcome.desired).expect("a readable kernel");
        let plan = Plan::diff(&observed, &outcome.desired, &identity);
        let report = reconcile::apply(&mut self.kernel, plan);
        let problems = &problem::of_run(&report, &outcome);
        let (node, cluster) = (&Node::from(&self.network), &self.network.cluster());
        let (took, report, outcome) = (Duration::from_millis(4), &report, &outcome);
        let run = Run {
            trigger,
            took,
            only: None,
            node,
            cluster,
            rejected: &[],
            outcome,
            report,
            problems,
            held: &Held::default(),
            published: true,
        };
        self.metrics.count(&run);
        self.status.reconciled(&run, self.now);
    }

    fn way(&self, n: u8) -> &WayTo {
        &self.status.peers[node_name(n).as_str()].ways[0]
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
    let table = table::running(&scene.status, Moment(scene.now.0 + 5));
    let expected = "\
netd 0.1.0 on node-1: ready
backend     vxlan, VNI 1, port 8472, DirectRouting
subnets     10.244.1.0/24 fd00:10:0:1::/64
interface   eth0, MTU 1500 (pods 1430), 192.168.1.1 fd00:1::1
reconciled  5s ago in 4 ms (kernel changed): 1 changed, 0 failed
repairs     1 add_route
store       followed; told something 16s ago
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
    status.store.trouble = Some(Trouble { what: "node \"n1\" pod cidr not assigned".to_owned(), since: START });
    let table = table::running(&status, Moment(START.0 + 7));
    let first = "netd 0.1.0: waiting: node \"n1\" pod cidr not assigned\n";
    assert!(
        table.starts_with(first) && table.contains("store       not usable for 7s: see the first line\n"),
        "{table}"
    );
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    scene.status.store.trouble = Some(Trouble { what: "it is gone".to_owned(), since: START });
    assert_eq!(scene.status.waits_for(), None, "a network that is there goes on");
    assert!(table::running(&scene.status, scene.now).starts_with("netd 0.1.0 on node-1: ready\n"));
}

#[test]
fn a_document_is_read_as_it_was_written() {
    let mut scene = Scene::of(direct_routing());
    scene.run(Trigger::Startup, 1);
    scene.status.store.trouble = Some(Trouble { what: "it is gone".to_owned(), since: START });
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
    let (first, other) = (scene.way(2).clone(), scene.way(3).clone());
    scene.run(Trigger::Periodic, 10);
    assert_eq!((scene.way(2), scene.way(3)), (&first, &other), "nothing has happened");
    scene.network = scene.network.clone().peers([far(2), far(3), near(5)]);
    scene.run(Trigger::StoreChanged, 10);
    assert_eq!((scene.way(2).way, scene.way(2).since), (Sort::Tunnel, scene.now), "node 2 has moved");
    assert_eq!((scene.way(3), scene.way(5).since), (&other, scene.now), "node 5 is new");
    scene.network = scene.network.clone().peers([far(3)]);
    scene.run(Trigger::StoreChanged, 10);
    assert_eq!(scene.status.peers.keys().collect::<Vec<_>>(), ["node-3"], "the others have left");
    assert_eq!(scene.way(3), &other);
}

#[test]
fn what_is_refused_makes_netd_unready_until_it_is_done() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.kernel.refuse = vec!["fdb replace 0a:00:00:00:00:03".to_owned()];
    scene.run(Trigger::Startup, 1);
    assert!(!scene.status.ready, "an entry is missing");
    assert_eq!((scene.way(2).programmed, scene.way(3).programmed), (true, false), "it is node 3's");
    assert_eq!((scene.metric("netd_peers_desired"), scene.metric("netd_peers_programmed")), ("2".into(), "1".into()));
    assert_eq!(scene.metric(r#"netd_operation_failures_total{kind="put_fdb"}"#), "1");
    let known = scene.status.problems.clone();
    assert_eq!((known.len(), scene.metric("netd_problems")), (1, "1".into()));
    scene.run(Trigger::Retry, 10);
    assert_eq!(scene.status.problems, known, "it is as old as it was");
    scene.kernel.refuse.clear();
    scene.run(Trigger::Retry, 10);
    assert!(scene.status.ready && scene.way(3).programmed && scene.status.problems.is_empty());
    assert_eq!(scene.metric("netd_ready"), "1");
    assert_eq!(scene.metric(r#"netd_operations_total{kind="put_fdb"}"#), "4", "two, one again, one again");
}

#[test]
fn what_stands_in_the_way_makes_netd_unready() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.kernel.add_link(&"flannel.1".parse().expect("a name"), 1500);
    scene.run(Trigger::Startup, 1);
    assert!(!scene.status.ready, "the device cannot be made");
    assert!(!scene.way(2).programmed && !scene.way(3).programmed, "and no tunnel goes without it");
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
    let object = Object::Route("10.244.2.0/24".parse().expect("a range"));
    let mut contested = Contested { object, times: 7, next: Some(Duration::from_millis(7900)) };
    let route = dataplane::op::Op::SetSysctl { key: "a".to_owned(), value: "1".to_owned() };
    let begun = BTreeMap::from([("route", 1)]);
    let held = Held { ops: vec![route], begun, contested: vec![contested.clone()] };
    scene.metrics.held(&held);
    scene.status.held(&held, scene.now);
    assert!(!scene.status.ready, "it is missing");
    let table = table::running(&scene.status, scene.now);
    let expected = "\nCONTESTED\nroute 10.244.2.0/24  put back 7 times  undone, next try in 8s\n";
    assert!(table.contains(expected), "{table}");
    assert_eq!(scene.metric("netd_contested_objects"), "1");
    assert_eq!(scene.metric(r#"netd_repairs_held_total{kind="route"}"#), "1");
    scene.run(Trigger::Retry, 8);
    contested.next = None;
    scene.status.held(&Held { contested: vec![contested], ..Held::default() }, scene.now);
    assert!(scene.status.ready && table::running(&scene.status, scene.now).contains("put back 7 times  in place\n"));
    let document = serde_json::to_value(&scene.status).expect("a document");
    assert_eq!(document["contested"], json!({ "route 10.244.2.0/24": { "times": 7 } }));
    scene.status.held(&Held::default(), scene.now);
    assert_eq!(scene.metric("netd_contested_objects"), "0");
}

#[test]
fn a_run_that_cannot_begin_is_told() {
    let mut scene = Scene::of(vxlan(V4, V4));
    scene.run(Trigger::Startup, 1);
    let problem = Problem::new(problem::Kind::CannotReconcile, "the network", "cannot be reconciled");
    scene.status.gave_up(Trigger::Periodic, Duration::ZERO, problem.clone(), START);
    assert!(!scene.status.ready);
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
    assert!(text.ends_with("# EOF\n"), "the end is told");
}

#[test]
fn a_dead_netds_remains_are_told_on_the_first_line() {
    let mut remains = Remains { why: "nothing answers on /run/netd/netd.sock".to_owned(), ..Remains::default() };
    assert_eq!(
        table::dead(&remains).lines().next(),
        Some("netd is not running: nothing answers on /run/netd/netd.sock")
    );
    remains.node = Some("n1".to_owned());
    let subnets = vec!["10.244.1.0/24".parse().expect("a range")];
    remains.lease = Some(LeaseFacts { subnets, ..LeaseFacts::default() });
    remains.lease_from = "the store".to_owned();
    let name = "flannel.1".parse().expect("a name");
    remains.devices.push(remains::Device { name, up: true, mtu: 1450, mac: None, fdb: 1, neighbours: 2 });
    remains.routes.push("10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink".to_owned());
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
    assert_eq!(table::dead(&remains), expected);
}

#[test]
fn yaml_says_what_json_says() {
    let value = json!({
        "plain": "a word or two", "number": 1, "truth": true, "nothing": null, "empty": {}, "none": [],
        "quoted": ["true", "10.244.1.0/24", "1", "", "a: b", " a", "it's", "a\nb", "- a", "Null"],
        "nested": [{ "b": [1, 2], "a": { "x": "y" } }, ["z"]],
        "fd00::1/64": "x",
    });
    let expected = r#"empty: {}
"fd00::1/64": x
nested:
  - a:
      x: "y"
    b:
      - 1
      - 2
  - - z
none: []
nothing: null
number: 1
plain: a word or two
quoted:
  - "true"
  - "10.244.1.0/24"
  - "1"
  - ""
  - "a: b"
  - " a"
  - "it's"
  - "a\nb"
  - "- a"
  - "Null"
truth: true
"#;
    assert_eq!(yaml::document(&value), expected);
    assert_eq!(yaml::document(&json!([])), "[]\n");
}

#[test]
fn moments_are_rfc_3339() {
    let known = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_772_323_140, "2026-02-28T23:59:00Z"),
        (1_767_225_599, "2025-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ];
    for (seconds, text) in known {
        assert_eq!(Moment(seconds).to_string(), text);
        assert_eq!(text.parse(), Ok(Moment(seconds)));
    }
    for day in (0..200_000).step_by(7) {
        let moment = Moment(day * 86_400 + 1);
        assert_eq!(moment.to_string().parse(), Ok(moment), "day {day}");
    }
    for wrong in ["", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00", "1969-12-31T23:59:59Z"] {
        wrong.parse::<Moment>().expect_err(wrong);
    }
    let ages = [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")];
    for (seconds, age) in ages {
        assert_eq!(START.age(Moment(START.0 + seconds)), age);
    }
    assert_eq!(START.age(Moment(0)), "0s", "a clock that was set back");
}
