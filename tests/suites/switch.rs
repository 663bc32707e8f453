//! The backend changes while packets flow: nothing is lost, no connection breaks, and nothing of the old one stays.
//!
//! Reverse-path filters are strict on every node, as many distributions have them.

use std::process::ExitCode;
use std::time::Duration;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::namespace::printed;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Failure, Load, Node, Outcome, Pod, Stack, Topology, ensure, eventually, kernel, net_conf, peer,
    seconds, sleep,
};
use serde_json::{Value, json};

/// The backends, each reached from the one before it, and the first from the last.
fn backends() -> Vec<Value> {
    vec![
        json!({ "Type": "vxlan" }),
        json!({ "Type": "host-gw" }),
        json!({ "Type": "vxlan", "VNI": 7 }),
        json!({ "Type": "vxlan", "VNI": 7, "DirectRouting": true }),
        json!({ "Type": "vxlan", "VNI": 7, "Port": 4789, "DirectRouting": true }),
        json!({ "Type": "vxlan", "VNI": 7, "Port": 4789, "MTU": 1400 }),
        json!({ "Type": "vxlan" }),
    ]
}

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials: Vec<Trial> = [Stack::V4, Stack::V6, Stack::Dual]
            .into_iter()
            .map(|pods| {
                test(format!("every backend to the next, all nodes at once/{pods:?} pods"), move || at_once(pods))
            })
            .collect();
        trials.push(test("every backend to the next, node by node, each order", node_by_node));
        trials.push(test("a restart in the middle of a change", restart_between));
        trials.push(test("a node whose netd stands still in the middle of a change", stands_still));
        trials.push(test("a node that joins a change, and stands still before it has published its lease", joins));
        trials.push(test("a node that joins a change reaches each peer as soon as that has changed", joins_early));
        trials.push(test("host-gw keeps the tunnel to a peer behind a router, and says so", behind_a_router));
        trials.push(test("what cannot be is refused, and the network stays", refused));
        trials
    })
}

struct Running {
    cluster: Cluster,
    pods: Vec<(&'static str, Pod)>,
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];

impl Running {
    /// Three nodes, each with its own configuration file, and a pod on each.
    fn start(pods: Stack, topology: &Topology) -> Outcome<Self> {
        let fabric = topology.build()?;
        for name in NODES {
            let strict = "for link in all eth0 default; do echo 1 > /proc/sys/net/ipv4/conf/$link/rp_filter; done";
            fabric.node(name).namespace().shell(strict)?;
            write_conf(fabric.disk(), name, &net_conf(pods, &backends()[0]))?;
        }
        let path = fabric.disk().join("%n.json").display().to_string();
        let cluster = Cluster::on(fabric, &["--ip-masq", "--net-config-path", &path])?;
        let pods = NODES.map(|node| Ok((node, cluster.pod(node, &format!("p-{node}"))?)));
        let pods = pods.into_iter().collect::<Outcome<Vec<_>>>()?;
        let running = Self { cluster, pods };
        for (from, to) in running.pairs() {
            running.cluster.settle(from, to)?;
        }
        Ok(running)
    }

    fn pairs(&self) -> Vec<(&Pod, &Pod)> {
        let pods = || self.pods.iter().map(|(_, pod)| pod);
        pods().flat_map(|from| pods().filter(|to| to.name() != from.name()).map(move |to| (from, to))).collect()
    }

    fn configure(&self, node: &str, pods: Stack, backend: &Value) -> Outcome {
        write_conf(self.cluster.fabric.disk(), node, &net_conf(pods, backend))
    }

    /// Runs `body` with a ping every 10 ms and a connection between every pair of pods, and fails where one suffers.
    fn under_load(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        let pods: Vec<&Pod> = self.pods.iter().map(|(_, pod)| pod).collect();
        let load = Load::between(&pods)?;
        let with_logs = |failure| self.cluster.with_logs(failure);
        body().map_err(with_logs)?;
        load.unharmed().map_err(with_logs)
    }

    /// Waits until every node receives by nothing but what `backend` has.
    fn settled(&self, backend: &Value) -> Outcome {
        self.settled_at(&NODES, backend)
    }

    fn settled_at(&self, nodes: &[&str], backend: &Value) -> Outcome {
        for name in nodes {
            eventually(seconds(60), &format!("{name} is settled on {backend}"), || {
                let node = self.cluster.node(name);
                let record = peer::read(node.store(), name)?;
                let received = received(&record);
                ensure!(received == expected(backend), "{name} receives {received:?}, not {:?}", expected(backend));
                let devices = vxlan_devices(node)?;
                let wanted = usize::from(backend["Type"] == "vxlan") * tunnel_families(&record);
                ensure!(devices.len() == wanted, "{name} has the devices {devices:?}; its record is {record}");
                let filter = node.namespace().run("cat /proc/sys/net/ipv4/conf/eth0/rp_filter")?;
                // With DirectRouting, packets may come in by two ways for good.
                let wanted = if backend["DirectRouting"] == true { "2" } else { "1" };
                ensure!(filter.trim() == wanted, "rp_filter of eth0 is {filter}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn write_conf(disk: &std::path::Path, node: &str, conf: &Value) -> Outcome {
    let path = disk.join(format!("{node}.json"));
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, conf.to_string()).context("write a configuration")?;
    std::fs::rename(&fresh, &path).context("put a configuration in its place")
}

fn received(record: &Value) -> Vec<String> {
    let entries = record["Receives"].as_array().map_or(&[][..], Vec::as_slice);
    let words =
        |entry: &Value| format!("{} {} {}", entry["Type"].as_str().unwrap_or_default(), entry["VNI"], entry["Port"]);
    entries.iter().map(words).collect()
}

fn expected(backend: &Value) -> Vec<String> {
    let direct = backend["Type"] == "host-gw" || backend["DirectRouting"] == true;
    let port = backend["Port"].as_u64().unwrap_or(8472);
    let tunnel = (backend["Type"] == "vxlan").then(|| format!("vxlan {} {port}", backend["VNI"].as_u64().unwrap_or(1)));
    direct.then(|| "host-gw null null".to_owned()).into_iter().chain(tunnel).collect()
}

/// The underlay has both families, so each family's pods have a device of their own.
fn tunnel_families(record: &Value) -> usize {
    ["Subnet", "IPv6Subnet"].into_iter().filter(|field| record[*field].is_string()).count()
}

fn vxlan_devices(node: &Node) -> Outcome<Vec<String>> {
    let text = node.namespace().run("ip -o link show type vxlan")?;
    Ok(text.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect())
}

fn at_once(pods: Stack) -> Outcome {
    let running = Running::start(pods, &Topology::one_segment(Stack::Dual))?;
    running.under_load(|| {
        for backend in &backends()[1..] {
            NODES.iter().try_for_each(|node| running.configure(node, pods, backend))?;
            running.settled(backend)?;
        }
        Ok(())
    })
}

fn node_by_node() -> Outcome {
    let running = Running::start(Stack::V4, &Topology::one_segment(Stack::Dual))?;
    let orders = [["n1", "n2", "n3"], ["n3", "n1", "n2"], ["n2", "n3", "n1"]];
    running.under_load(|| {
        for (backend, order) in backends()[1..].iter().zip(orders.iter().cycle()) {
            for node in order {
                running.configure(node, Stack::V4, backend)?;
                // Long enough for every node to have taken notice, and a pause in which all stays as it is.
                eventually(seconds(60), &format!("{node} receives by the new way"), || {
                    let record = peer::read(running.cluster.node(node).store(), node)?;
                    let (has, wants) = (received(&record), expected(backend));
                    ensure!(wants.iter().all(|way| has.contains(way)), "{node} receives {has:?}, not yet {wants:?}");
                    Ok(())
                })?;
                for (from, to) in running.pairs() {
                    running.cluster.talk(from, to)?;
                }
            }
            running.settled(backend)?;
        }
        Ok(())
    })
}

fn restart_between() -> Outcome {
    let mut running = Running::start(Stack::V4, &Topology::one_segment(Stack::Dual))?;
    let backend = &backends()[1];
    running.configure("n1", Stack::V4, backend)?;
    running.cluster.daemon("n1").await_log("the network configuration has changed", seconds(60))?;
    running.cluster.take("n1").crash()?;
    running.configure("n2", Stack::V4, backend)?;
    running.cluster.resume("n1")?;
    running.under_load(|| {
        running.configure("n3", Stack::V4, backend)?;
        running.settled(backend)
    })
}

/// Longer than a path stays open after its end was published.
const STILL: Duration = seconds(5);

/// One netd gets no processor for a while, and each time from another point of the change on, while the others go on.
fn stands_still() -> Outcome {
    let running = Running::start(Stack::V4, &Topology::one_segment(Stack::Dual))?;
    // How many of the nodes are changed before it stands still, itself included, and how long after the last of them.
    let stops = [("n2", 2, 0), ("n1", 1, 8), ("n3", 3, 4), ("n2", 0, 0), ("n1", 3, 16), ("n3", 2, 12)];
    running.under_load(|| {
        for (backend, (still, before, after)) in backends()[1..].iter().zip(stops) {
            let daemon = running.cluster.daemon(still);
            let order: Vec<&str> = [still].into_iter().chain(NODES.into_iter().filter(|node| *node != still)).collect();
            let (first, rest) = order.split_at(before);
            first.iter().try_for_each(|node| running.configure(node, Stack::V4, backend))?;
            sleep(Duration::from_millis(after));
            daemon.stand_still()?;
            rest.iter().try_for_each(|node| running.configure(node, Stack::V4, backend))?;
            sleep(STILL);
            daemon.go_on()?;
            running.settled(backend).context(format!("{still} stood still on the way to {backend}"))?;
        }
        Ok(())
    })
}

/// What netd logs when pods can be wired.
const READY: &str = " ready peers";

/// Ends netd on n3 and takes the node out of the network.
fn take_out(running: &mut Running) -> Outcome {
    running.pods.retain(|(node, _)| *node != "n3");
    let path = running.cluster.fabric.disk().join("n3.json").display().to_string();
    running.cluster.take("n3").crash()?;
    let output = running.cluster.node("n3").run_netd("cleanup", &["--net-config-path", &path])?;
    printed("netd cleanup", &output).map(drop)
}

/// Waits until a node, which is ready, names the pods of another as out of reach, or no longer.
fn names(running: &Running, node: &str, other: &str, wanted: bool) -> Outcome {
    let pods = format!("IPv4 pods of node {other}");
    eventually(seconds(20), &format!("{node} names {other}: {wanted}"), || {
        let output = running.cluster.node(node).run_netd("status", &["-o", "json"])?;
        let status: Value = serde_json::from_slice(&output.stdout).context("read the status")?;
        let problems = status["problems"].as_array().context("there are no problems")?;
        let is_named = problems.iter().any(|one| one["kind"] == "NoPeerRoute" && one["subject"] == *pods);
        ensure!(status["ready"] == true && is_named == wanted, "ready {}, {}", status["ready"], status["problems"]);
        Ok(())
    })
    .map_err(|failure| running.cluster.with_logs(failure))
}

/// n3 joins with a configuration that n1 has taken and n2 has not.
fn joins_early() -> Outcome {
    let mut running = Running::start(Stack::V4, &Topology::one_segment(Stack::Dual))?;
    take_out(&mut running)?;
    let (former, backend) = (&backends()[0], &backends()[2]);
    let load = Load::between(&running.pods.iter().map(|(_, pod)| pod).collect::<Vec<_>>())?;
    ["n1", "n3"].iter().try_for_each(|node| running.configure(node, Stack::V4, backend))?;
    let receives = |running: &Running, node: &str| Ok(received(&peer::read(running.cluster.node(node).store(), node)?));
    eventually(seconds(20), "n1 receives in both", || {
        let now: Vec<String> = receives(&running, "n1")?;
        let both = [expected(former), expected(backend)].concat();
        ensure!(both.iter().all(|one| now.contains(one)), "it receives {now:?}");
        Ok(())
    })?;
    running.cluster.resume("n3")?;
    let late = running.cluster.pod("n3", "late")?;
    let settle = |running: &Running, node: &str| {
        let (_, pod) = running.pods.iter().find(|(of, _)| *of == node).context("the node has a pod")?;
        running.cluster.settle(&late, pod)?;
        running.cluster.settle(pod, &late)
    };
    settle(&running, "n1")?;
    for (node, other) in [("n3", "n2"), ("n2", "n3")] {
        names(&running, node, other, true)?;
    }
    let now: Vec<String> = receives(&running, "n3")?;
    ensure!(now == expected(backend), "n3 receives {now:?}");
    let devices = vxlan_devices(running.cluster.node("n3"))?;
    ensure!(devices.len() == 1, "n3 has the devices {devices:?}");
    running.configure("n2", Stack::V4, backend)?;
    settle(&running, "n2")?;
    for (node, other) in [("n3", "n2"), ("n2", "n3")] {
        names(&running, node, other, false)?;
    }
    running.settled(backend)?;
    load.unharmed().map_err(|failure| running.cluster.with_logs(failure))
}

/// n3 has seen the network as it was, and goes on when the others have closed the tunnel: they could not know that it would send by
/// that. Its pods must not begin with it.
fn joins() -> Outcome {
    let mut running = Running::start(Stack::V4, &Topology::one_segment(Stack::Dual))?;
    // Between the two there are milliseconds: it is tried until it fits.
    eventually(seconds(60), "n3 stands still before it has published its lease", || {
        take_out(&mut running)?;
        running.cluster.launch("n3")?;
        let daemon = running.cluster.daemon("n3");
        daemon.await_log("ip link add", seconds(20))?;
        daemon.stand_still()?;
        let record = peer::read(running.cluster.node("n3").store(), "n3")?;
        ensure!(record["Receives"].is_null() && !daemon.log().contains("ready"), "it has published {record}");
        Ok(())
    })?;
    let (others, backend) = (["n1", "n2"], &backends()[1]);
    others.iter().try_for_each(|node| running.configure(node, Stack::V4, backend))?;
    let with_record = |failure: Failure| match peer::read(running.cluster.node("n3").store(), "n3") {
        Ok(record) => failure.with("the record of n3", &record.to_string()),
        Err(_) => failure,
    };
    running.settled_at(&others, backend).map_err(with_record)?;
    // Its readiness needs nothing that they do.
    others.iter().try_for_each(|node| running.cluster.daemon(node).stand_still())?;
    let n3 = running.cluster.daemon("n3");
    n3.go_on()?;
    // Its readiness comes by another way than its log, which may be the slower of the two.
    n3.await_log(READY, seconds(20))?;
    let log = n3.log();
    let before = log.split(READY).next().unwrap_or_default();
    for node in others {
        let range = subnet(&running, node)?;
        let last = before.lines().rfind(|line| line.contains("\"ip route") && line.contains(&range));
        let is_gone = last.is_some_and(|line| line.contains("ip route delete"));
        ensure!(is_gone, "n3 was ready with a way to {node} that had closed:\n{log}");
    }
    others.iter().try_for_each(|node| running.cluster.daemon(node).go_on())?;
    for node in others {
        names(&running, "n3", node, true)?;
        names(&running, node, "n3", true)?;
    }
    running.configure("n3", Stack::V4, backend)?;
    let pod = running.cluster.pod("n3", "late")?;
    for (_, other) in &running.pods {
        running.cluster.settle(&pod, other)?;
    }
    others.iter().try_for_each(|node| names(&running, "n3", node, false))
}

/// n3 is on the other side of a router.
fn behind_a_router() -> Outcome {
    let running = Running::start(Stack::V4, &Topology::two_segments(Stack::V4))?;
    let backend = json!({ "Type": "host-gw" });
    running.under_load(|| {
        NODES.iter().try_for_each(|node| running.configure(node, Stack::V4, &backend))?;
        running.cluster.daemon("n1").await_log("IPv4 pods of node n3 are reached by the tunnel", seconds(60))?;
        eventually(seconds(10), "n1 and n2 have plain routes", || {
            let route = kernel::route(running.cluster.node("n1").namespace(), Family::V4, &subnet(&running, "n2")?)?;
            ensure!(route.as_ref().is_some_and(|route| route["dev"] == "eth0"), "the route is {route:?}");
            Ok(())
        })?;
        ensure!(!vxlan_devices(running.cluster.node("n3"))?.is_empty(), "n3 has lost its tunnel");
        Ok(())
    })
}

fn subnet(running: &Running, node: &str) -> Outcome<String> {
    let record = peer::read(running.cluster.node(node).store(), node)?;
    record["Subnet"].as_str().map(str::to_owned).context("the record has a subnet")
}

fn refused() -> Outcome {
    let running = Running::start(Stack::V4, &Topology::one_segment(Stack::V4))?;
    let vxlan = &backends()[0];
    let bad = [
        ("no JSON", "{".to_owned(), "not valid"),
        ("VNI", net_conf(Stack::V4, &json!({ "Type": "vxlan", "VNI": 16_777_216 })).to_string(), "VNI"),
        (
            "Network",
            json!({ "Network": "10.99.0.0/16", "Backend": vxlan }).to_string(),
            "cannot change while pods have addresses",
        ),
        (
            "SubnetLen",
            json!({ "Network": "10.244.0.0/16", "SubnetLen": 25, "Backend": vxlan }).to_string(),
            "SubnetLen",
        ),
        ("backend", json!({ "Network": "10.244.0.0/16", "Backend": { "Type": "bogus" } }).to_string(), "bogus"),
    ];
    running.under_load(|| {
        for (what, text, said) in bad {
            let path = running.cluster.fabric.disk().join("n1.json");
            std::fs::write(&path, text).context("write a configuration")?;
            let daemon = running.cluster.daemon("n1");
            daemon.await_log(said, seconds(60)).context(what)?;
            daemon.await_log("is refused, the network stays as it is", seconds(1)).context(what)?;
            running.configure("n1", Stack::V4, vxlan)?;
            daemon.await_log("no longer: the changed network configuration is refused", seconds(60)).context(what)?;
        }
        running.settled(vxlan)
    })
}
