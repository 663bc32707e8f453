//! Services of netd itself: the proxy inside the daemon, on nodes of a pod network, and what an operator sees of it.

#[path = "embedded/api.rs"]
mod api;
#[path = "embedded/beside.rs"]
mod beside;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::process::{Command, ExitCode};

use dataplane::types::Family;
use netd_tests::services::{Answering, ServicesDir, ask, await_endpoints, listing, service, slice};
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Namespace, Node, Outcome, Pod, Stack, Topology, apiserver, binaries, ensure, eventually, health,
    net_conf, peers, seconds,
};
use serde_json::{Value, json};

/// The cluster IP of the Service `web`.
const CLUSTER: ([u8; 4], u16) = ([10, 96, 0, 10], 80);
const NODE_PORT: u16 = 30080;
/// So many connections miss one of three endpoints once in 1e17.
const CONNECTIONS: usize = 100;

fn main() -> ExitCode {
    let prepare = || peers::prepare(&apiserver::PROGRAMS);
    netd_tests::suite::run_with(prepare, || {
        vec![
            test("Services between the pods of three nodes", works),
            test("node ports on loopback of each node", on_loopback),
            test("what an operator sees: services, trace, status, doctor", seen),
            test("connections, packets and bytes are shown for each endpoint", traffic),
            test("netd ends and is cleaned up with its proxy", ends),
            test("a proxy that fails leaves the pod network alone", fails),
            test("auto leaves Services to kube-proxy, takes them when it ends, and gives them back", beside::gives_way),
            test("auto takes Services from one who only answers as kube-proxy does", beside::pretends),
            test("Services of an API server, which goes away and comes back", api::serves),
            test("netd is netd-proxy where it is called so, and one of them runs", is_netd_proxy),
            test("flags that contradict each other are refused", refused),
        ]
    })
}

/// Three nodes, a host outside, and a pod on each node that answers with its name.
struct Bed {
    cluster: Cluster,
    services: ServicesDir,
    pods: Vec<(&'static str, Pod)>,
    servers: Vec<Answering>,
}

impl Bed {
    fn start(flags: &[&str]) -> Outcome<Self> {
        let fabric = Topology::one_segment(Stack::V4).with("host", 1).build()?;
        fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan" })))?;
        let services = ServicesDir::new(&fabric.disk().join("services"))?;
        let dir = format!("--services-dir={}", services.path());
        let cluster = Cluster::on(fabric, &[&["--ip-masq", &dir, health::FLAG], flags].concat())?;
        let mut bed = Self { cluster, services, pods: Vec::new(), servers: Vec::new() };
        for (node, name) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
            let pod = bed.cluster.pod(node, name)?;
            bed.servers.push(Answering::start(pod.namespace(), pod.address(Family::V4)?, name)?);
            bed.pods.push((node, pod));
        }
        for (_, from) in &bed.pods {
            for (_, to) in bed.pods.iter().filter(|(_, to)| to.name() != from.name()) {
                bed.cluster.settle(from, to)?;
            }
        }
        Ok(bed)
    }

    fn endpoints(&self) -> Outcome<Vec<(IpAddr, &'static str)>> {
        self.pods.iter().map(|(node, pod)| Ok((pod.address(Family::V4)?, *node))).collect()
    }

    /// Writes the Service `web` with these endpoints and waits until every node has it.
    fn serve(&self, more: &str, endpoints: &[(IpAddr, &str)]) -> Outcome {
        let port = format!(", nodePort: {NODE_PORT}");
        let text = service("web", "10.96.0.10", &port, &format!("  type: NodePort\n{more}")) + &slice("web", endpoints);
        self.services.write("web.yaml", &text)?;
        for node in ["n1", "n2", "n3"] {
            await_endpoints(self.cluster.node(node), "default/web", endpoints.len())
                .map_err(|failure| self.cluster.with_logs(failure))?;
        }
        Ok(())
    }
}

/// How often each server answers, and the clients' addresses that the servers see.
fn counts(
    from: &Namespace,
    to: SocketAddr,
    connections: usize,
) -> Outcome<BTreeMap<String, (usize, BTreeSet<IpAddr>)>> {
    from.within(|| {
        let mut counts = BTreeMap::<String, (usize, BTreeSet<IpAddr>)>::new();
        for _ in 0..connections {
            let (name, client) = ask(to)?;
            let entry = counts.entry(name).or_default();
            entry.0 += 1;
            entry.1.insert(client);
        }
        Ok(counts)
    })?
}

fn works() -> Outcome {
    let bed = Bed::start(&["--proxy=on"])?;
    let endpoints = bed.endpoints()?;
    bed.serve("", &endpoints)?;
    for (_, pod) in &bed.pods {
        let seen = counts(pod.namespace(), CLUSTER.into(), CONNECTIONS)?;
        ensure!(seen.keys().eq(["a", "b", "c"]), "{} reaches {seen:?}", pod.name());
        // But for the pod itself, whose answer would not come back: no address is translated on the way.
        let own = pod.address(Family::V4)?;
        for (_, (_, clients)) in seen.iter().filter(|(name, _)| *name != pod.name()) {
            ensure!(clients.iter().eq([&own]), "{} is seen as {clients:?}", pod.name());
        }
    }
    // From outside, at each node's address; from a node itself.
    let host = bed.cluster.node("host");
    for node in ["n1", "n2", "n3"] {
        let to = SocketAddr::new(bed.cluster.node(node).address(Family::V4), NODE_PORT);
        let seen = counts(host.namespace(), to, CONNECTIONS)?;
        ensure!(seen.keys().eq(["a", "b", "c"]), "{node}'s node port leads to {seen:?}");
        let seen = counts(bed.cluster.node(node).namespace(), CLUSTER.into(), CONNECTIONS)?;
        ensure!(seen.keys().eq(["a", "b", "c"]), "{node} itself reaches {seen:?}");
    }
    bed.serve("  sessionAffinity: ClientIP\n", &endpoints)?;
    // The endpoints are the former ones, so that nothing else shows when the change is there.
    eventually(seconds(20), "with affinity one client reaches one pod", || {
        let seen = counts(bed.pods[0].1.namespace(), CLUSTER.into(), CONNECTIONS)?;
        ensure!(seen.len() == 1, "it reaches {seen:?}");
        Ok(())
    })?;
    bed.serve("", &endpoints[..1])?;
    let seen = counts(bed.pods[2].1.namespace(), CLUSTER.into(), 20)?;
    ensure!(seen.keys().eq(["a"]), "with one endpoint left {seen:?} answer");
    Ok(())
}

/// netd with kube-proxy's file: node ports are on loopback where the file asks for it.
fn on_loopback() -> Outcome {
    let config = tempfile::Builder::new().prefix("nt-").tempdir_in("/run").context("make a folder")?;
    let file = config.path().join("config.yaml");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nnodePortAddresses: [primary, localhost]\n";
    std::fs::write(&file, text).context("write a file")?;
    let bed = Bed::start(&["--proxy=on", &format!("--proxy-config={}", file.display())])?;
    bed.serve("", &bed.endpoints()?)?;
    for node in ["n1", "n2", "n3"] {
        let node = bed.cluster.node(node);
        eventually(seconds(20), "loopback leads to all pods", || {
            let seen = counts(node.namespace(), SocketAddr::from(([127, 0, 0, 1], NODE_PORT)), CONNECTIONS)?;
            ensure!(seen.keys().eq(["a", "b", "c"]), "{}'s loopback leads to {seen:?}", node.name());
            Ok(())
        })?;
    }
    let listing = listing(bed.cluster.node("n1"))?;
    let shown = &listing["services"][0]["loopback"];
    ensure!(*shown == json!({ "address": "127.0.0.1:30080", "served": "Listening" }), "{listing:#}");
    Ok(())
}

fn text(node: &Node, verb: &str, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
    let output = node.run_netd(verb, arguments)?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), format!("{out}{error}")))
}

fn document(node: &Node) -> Outcome<Value> {
    let (code, text) = text(node, "status", &["-o", "json"])?;
    serde_json::from_str(&text).context(format!("exit {code:?}, it says {text}"))
}

/// What the doctor finds wrong with Services, as text.
fn findings(bed: &Bed, node: &str) -> Outcome<Vec<Value>> {
    let dir = format!("--services-dir={}", bed.services.path());
    let (_, text) = text(bed.cluster.node(node), "doctor", &["-o", "json", "--proxy=on", &dir])?;
    let findings: Vec<Value> = serde_json::from_str(&text).context(format!("read {text}"))?;
    Ok(findings.into_iter().filter(|finding| finding["check"] == "services" && finding["verdict"] != "ok").collect())
}

fn seen() -> Outcome {
    let bed = Bed::start(&["--proxy=on"])?;
    let (n1, endpoints) = (bed.cluster.node("n1"), bed.endpoints()?);
    bed.serve("", &endpoints)?;
    ensure!(findings(&bed, "n1")?.is_empty(), "the doctor says {:?}", findings(&bed, "n1")?);
    let (code, table) = text(n1, "services", &[])?;
    ensure!(
        code == Some(0) && table.contains("default/web  TCP    10.96.0.10:80  30080      3 of 3\n"),
        "{code:?}: {table}"
    );
    let (code, trace) = text(n1, "trace", &["192.168.1.99", "10.96.0.10:80"])?;
    let address = endpoints[2].0;
    ensure!(code == Some(0) && trace.contains(&address.to_string()), "{code:?}: {trace}");
    let status = document(n1)?;
    ensure!(status["proxy"]["state"] == "Programmed" && status["ready"] == true, "the status is {status:#}");

    // A second Service claims the node port, a third one has no endpoints, and the fourth one's is at an address that no node has.
    let port = format!(", nodePort: {NODE_PORT}");
    let lost: IpAddr = [10, 244, 255, 9].into();
    bed.services.write(
        "others.yaml",
        &[
            service("wex", "10.96.0.11", &port, "  type: NodePort\n"),
            slice("wex", &endpoints[..1]),
            service("none", "10.96.0.12", "", ""),
            service("lost", "10.96.0.13", "", ""),
            slice("lost", &[(lost, "n9")]),
        ]
        .concat(),
    )?;
    await_endpoints(n1, "default/lost", 1)?;
    eventually(seconds(20), "the status has the conflict", || {
        let status = document(n1)?;
        let problems = status["problems"].as_array().context("no problems")?;
        ensure!(problems.iter().any(|problem| problem["kind"] == "NodePortConflict"), "the status is {status:#}");
        ensure!(status["proxy"]["state"] == "Programmed", "the status is {status:#}");
        Ok(())
    })?;
    let listing = listing(n1)?;
    let of = |name: &str| listing["services"].as_array().into_iter().flatten().find(|port| port["service"] == *name);
    ensure!(of("default/wex").is_some_and(|port| port["nodePort"].is_null()), "the Services are {listing:#}");
    let found = findings(&bed, "n1")?;
    let says = |subject: &str, part: &str| {
        found.iter().any(|finding| finding["subject"] == *subject && finding.to_string().contains(part))
    };
    ensure!(says("default/none", "no endpoints"), "the doctor says {found:?}");
    ensure!(says(&lost.to_string(), "default/lost"), "the doctor says {found:?}");
    ensure!(found.iter().any(|finding| finding.to_string().contains("node port 30080")), "the doctor says {found:?}");
    n1.namespace().run("nft add table ip kube-proxy")?;
    n1.namespace().run("nft add chain ip kube-proxy services")?;
    ensure!(
        findings(&bed, "n1")?.iter().any(|f| f["subject"] == "kube-proxy"),
        "the doctor says nothing of kube-proxy"
    );
    Ok(())
}

fn traffic() -> Outcome {
    let bed = Bed::start(&["--proxy=on"])?;
    let (n1, endpoints) = (bed.cluster.node("n1"), bed.endpoints()?);
    n1.namespace().run("sysctl -w net.netfilter.nf_conntrack_acct=1")?;
    bed.serve("", &endpoints)?;
    let seen = counts(bed.pods[0].1.namespace(), CLUSTER.into(), CONNECTIONS)?;
    let listing = listing(n1)?;
    let shown = listing["services"][0]["endpoints"].as_array().context("no endpoints")?;
    let mut shown: Vec<u64> = shown.iter().filter_map(|endpoint| endpoint["traffic"]["connections"].as_u64()).collect();
    let mut made: Vec<u64> = seen.values().filter_map(|(count, _)| u64::try_from(*count).ok()).collect();
    shown.sort_unstable();
    made.sort_unstable();
    ensure!(shown == made, "the endpoints answered {seen:?}, and shown is {listing:#}");
    for endpoint in listing["services"][0]["endpoints"].as_array().context("no endpoints")? {
        let of = |name: &str| endpoint["traffic"][name].as_u64().context("a number");
        // A connection has at least three packets to open, and headers of 40 bytes in each.
        ensure!(of("packets")? >= 3 * of("connections")?, "{endpoint:#}");
        ensure!(of("bytes")? >= 40 * of("packets")?, "{endpoint:#}");
    }
    let (_, table) = text(n1, "services", &[])?;
    ensure!(table.contains(&format!("connections {}, packets ", made[0])), "{table}");
    Ok(())
}

fn table(node: &Node) -> bool {
    node.namespace().run("nft list table ip netd-proxy").is_ok()
}

fn ends() -> Outcome {
    let mut bed = Bed::start(&["--proxy=on"])?;
    bed.serve("", &bed.endpoints()?)?;
    let status = bed.cluster.take("n1").terminate()?;
    ensure!(status.success(), "netd ends with {status}");
    let n1 = bed.cluster.node("n1");
    ensure!(table(n1), "the tables go with netd");
    let (code, said) = text(n1, "services", &[])?;
    ensure!(code == Some(1) && said.contains("no proxy of netd's runs"), "{code:?}: {said}");
    let seen = counts(bed.pods[0].1.namespace(), CLUSTER.into(), CONNECTIONS)?;
    ensure!(seen.len() == 3, "without netd {seen:?} answer");
    bed.cluster.resume("n1")?;
    await_endpoints(bed.cluster.node("n1"), "default/web", 3)?;
    bed.cluster.take("n1").crash()?;
    let n1 = bed.cluster.node("n1");
    let (code, said) = text(n1, "cleanup", &[])?;
    ensure!(code == Some(0) && !table(n1), "the tables are there after cleanup, {code:?}: {said}");
    Ok(())
}

fn readyz(node: &Node) -> Outcome<String> {
    Ok(health::ask(node, [127, 0, 0, 1].into(), "GET /readyz")?.1)
}

fn fails() -> Outcome {
    let config = tempfile::Builder::new().prefix("nt-").tempdir_in("/run").context("make a folder")?;
    let file = config.path().join("config.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\n").context("write a file")?;
    // It waits until the pod network works.
    let bed = Bed::start(&["--proxy=on", &format!("--proxy-config={}", file.display())])?;
    let n1 = bed.cluster.node("n1");
    let status = eventually(seconds(20), "the proxy fails", || {
        let status = document(n1)?;
        ensure!(status["ready"] == true && status["proxy"]["state"] == "Failed", "the status is {status:#}");
        Ok(status)
    })?;
    let problem =
        status["problems"].as_array().and_then(|problems| problems.iter().find(|p| p["kind"] == "ProxyFailed"));
    ensure!(problem.is_some_and(|problem| problem.to_string().contains("config.yaml")), "the status is {status:#}");
    let (code, said) = text(n1, "status", &[])?;
    ensure!(code == Some(2) && said.contains("not ready: Services"), "{code:?}: {said}");
    ensure!(readyz(n1)?.contains(" 503 "), "/readyz says {}", readyz(n1)?);
    bed.cluster.talk(&bed.pods[0].1, &bed.pods[1].1)?;
    let right = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    std::fs::write(&file, right).context("write a file")?;
    eventually(seconds(30), "the proxy runs with the mended file", || {
        ensure!(readyz(n1)?.contains(" 200 "), "/readyz says {}", readyz(n1)?);
        Ok(())
    })?;
    bed.serve("", &bed.endpoints()?)
}

fn is_netd_proxy() -> Outcome {
    let bed = Bed::start(&["--proxy=on"])?;
    let n1 = bed.cluster.node("n1");
    let program = bed.cluster.fabric.disk().join("netd-proxy");
    symlink(binaries::netd()?, &program).context("make a link")?;
    bed.serve("", &bed.endpoints()?)?;
    let run = |arguments: &[&str]| n1.namespace().output(Command::new(&program).args(arguments));
    let output = run(&["services", "-oyaml"])?;
    let yaml = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && yaml.contains("service: default/web"), "{}: {yaml}", output.status);
    let output = run(&[&format!("--services-dir={}", bed.services.path()), "--hostname-override=n1"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("another netd-proxy"), "{}: {said}", output.status);
    Ok(())
}

fn refused() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let n1 = fabric.node("n1");
    n1.refuses(&["--proxy=on"], &["--services-dir", "--kube-subnet-mgr"])?;
    n1.refuses(&["--proxy=off", "--services-dir=/run"], &["--services-dir", "--proxy=off"])?;
    n1.refuses(&["--proxy-config=/run/x"], &["--proxy-config", "--proxy=on"])
}
