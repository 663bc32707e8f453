//! The demo: three nodes on two segments, pods, who reaches whom and which way. Started by `scripts/demo`.
//!
//! Everything is in namespaces of this program's own and goes with it, however it ends.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use dataplane::types::Family;
use netd_tests::flow::Stream;
use netd_tests::repeated::{self, Repeated};
use netd_tests::services::{Answering, ServicesDir, ask, await_endpoints, changes, service, slice};
use netd_tests::{
    Cluster, Context, Namespace, Node, Outcome, PacketPath, Pod, Sniffer, Stack, Topology, ensure, eventually, fail,
    isolation, kernel, net_conf, peer, seconds,
};
use serde_json::{Value, json};

struct Wishes {
    keep: bool,
    backend: Value,
    underlay: Stack,
}

fn main() -> ExitCode {
    if let Err(code) = isolation::enter_or_exit() {
        return code;
    }
    match wishes().and_then(|wishes| show(&wishes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn wishes() -> Outcome<Wishes> {
    let mut wishes = Wishes { keep: false, backend: json!({ "Type": "vxlan" }), underlay: Stack::V4 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep" => wishes.keep = true,
            "--backend" => wishes.backend = backend(&words.next().unwrap_or_default())?,
            "--underlay" => wishes.underlay = underlay(&words.next().unwrap_or_default())?,
            _ => fail!("unknown argument {word:?}; see scripts/demo --help"),
        }
    }
    Ok(wishes)
}

fn backend(name: &str) -> Outcome<Value> {
    Ok(match name {
        "vxlan" => json!({ "Type": "vxlan" }),
        "host-gw" => json!({ "Type": "host-gw" }),
        "direct" => json!({ "Type": "vxlan", "DirectRouting": true }),
        _ => fail!("--backend is vxlan, host-gw or direct, not {name:?}"),
    })
}

fn underlay(name: &str) -> Outcome<Stack> {
    Ok(match name {
        "v4" => Stack::V4,
        "v6" => Stack::V6,
        "dual" => Stack::Dual,
        _ => fail!("--underlay is v4, v6 or dual, not {name:?}"),
    })
}

fn show(wishes: &Wishes) -> Outcome {
    let host_gw = wishes.backend["Type"] == "host-gw";
    let topology =
        if host_gw { Topology::one_segment(wishes.underlay) } else { Topology::two_segments(wishes.underlay) };
    // An IPv6 route has no IPv4 gateway, so plain routes carry what the machines speak themselves.
    let pods = if host_gw { wishes.underlay } else { Stack::Dual };
    let pods_have_v4 = pods.has(Family::V4);
    let step = Step::begin("machines, cables, a router");
    let fabric = topology.build()?;
    step.end();
    picture(&fabric.nodes);
    fabric.write_net_conf(&net_conf(pods, &wishes.backend))?;
    let step = Step::begin("netd on each node, until it is ready");
    let services = ServicesDir::new(&fabric.disk().join("services"))?;
    let dir = format!("--services-dir={}", services.path());
    let cluster = Cluster::on(fabric, &["--ip-masq", "--proxy=on", &dir])?;
    step.end();
    let step = Step::begin("pods, through the plugin");
    let placed = [("n1", "a"), ("n1", "b"), ("n2", "c"), ("n3", "d")];
    let pods: Vec<(&Node, Pod)> = placed
        .into_iter()
        .map(|(node, name)| Ok((cluster.node(node), cluster.pod(node, name)?)))
        .collect::<Outcome<_>>()?;
    step.end();
    for (node, pod) in &pods {
        let addresses: Vec<String> = pod.addresses().iter().map(|(_, address)| address.to_string()).collect();
        println!("      {} on {}   {}", pod.name(), node.name(), addresses.join("   "));
    }
    println!();
    everybody(&cluster, &pods)?;
    inside(cluster.node("n1"), &wishes.backend)?;
    heal(&cluster)?;
    change(&cluster, &pods, &wishes.backend)?;
    everybody(&cluster, &pods)?;
    if pods_have_v4 {
        balance(&cluster, &services, &pods)?;
    }
    status(cluster.node("n1"))?;
    if wishes.keep {
        keep(&cluster)?;
    }
    println!("{} all of it goes now; `scripts/demo --keep` lets you look around", paint("1;34", "==>"));
    Ok(())
}

/// A line of progress: what is being done, and when it is done how long it took.
struct Step(Instant);

impl Step {
    fn begin(what: &str) -> Self {
        print!("{} {what:<44}", paint("1;34", "==>"));
        // Seen before the work starts, also where output is buffered; a closed output is noticed by the next line.
        let _ = std::io::stdout().flush();
        Self(Instant::now())
    }

    fn end(self) {
        println!("{:>5} ms", self.0.elapsed().as_millis());
    }
}

fn paint(code: &str, text: &str) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain { text.to_owned() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

fn picture(nodes: &[Node]) {
    println!();
    for segment in 1..=nodes.iter().map(Node::segment).max().unwrap_or(0) {
        let machines: Vec<String> = nodes
            .iter()
            .filter(|node| node.segment() == segment)
            .map(|node| {
                let addresses: Vec<String> = node.addresses().iter().map(|(_, address)| address.to_string()).collect();
                format!("{} {}", paint("1", node.name()), addresses.join(" "))
            })
            .collect();
        println!("      segment {segment} --- router      {}", machines.join("   "));
    }
    println!();
}

/// Ping, TCP and UDP of every pair in every family, and the ways they took, as a table.
fn everybody(cluster: &Cluster, pods: &[(&Node, Pod)]) -> Outcome {
    let step = Step::begin("who reaches whom: ping, TCP, UDP, each way");
    let segments = 1..=u8::try_from(cluster.fabric.segments.len()).unwrap_or(u8::MAX);
    let sniffers: Vec<Sniffer> = segments.map(|segment| cluster.fabric.sniffer(segment)).collect::<Outcome<_>>()?;
    let mut table = format!("\n      {:<10}", "from \\ to");
    for (node, pod) in pods {
        let _ = write!(table, "{:<10}", format!("{} ({})", pod.name(), node.name()));
    }
    let mut example = None;
    for (from, source) in pods {
        let _ = write!(table, "\n      {:<10}", format!("{} ({})", source.name(), from.name()));
        for (to, destination) in pods {
            if source.name() == destination.name() {
                table.push_str("-         ");
                continue;
            }
            cluster.settle(source, destination)?;
            sniffers.iter().for_each(Sniffer::forget);
            cluster.talk(source, destination)?;
            let sniffer = &sniffers[usize::from(from.segment() - 1)];
            let word =
                if from.name() == to.name() { "bridge" } else { way(sniffer, source, destination, &mut example)? };
            let (color, pad) = (if word == "tunnel" { "36" } else { "32" }, 10 - word.len());
            let _ = write!(table, "{}{:pad$}", paint(color, word), "");
        }
    }
    step.end();
    println!("{table}\n");
    println!("      bridge: on the node's own cni0; plain: routed as it is; tunnel: inside VXLAN");
    if table.contains("mixed") {
        println!("      mixed: plain for the pods of the underlay's family, tunnel for the other's");
    }
    if let Some(example) = example {
        println!("      one packet from the wire: {example}");
    }
    println!();
    Ok(())
}

fn way(sniffer: &Sniffer, source: &Pod, destination: &Pod, example: &mut Option<String>) -> Outcome<&'static str> {
    let mut word = "";
    for (family, to) in destination.addresses().iter() {
        let from = source.address(family)?;
        let way = sniffer.path_of(from, *to)?;
        let this = if way == PacketPath::Plain { "plain" } else { "tunnel" };
        word = if word.is_empty() || word == this { this } else { "mixed" };
        if way != PacketPath::Plain {
            example.get_or_insert_with(|| format!("{from} > {to} in {way}"));
        }
    }
    Ok(word)
}

/// One node opened: four lines of each view.
fn inside(node: &Node, backend: &Value) -> Outcome {
    println!("{} one node from inside: {}\n", paint("1;34", "==>"), node.name());
    // Each view with what its characteristic lines hold.
    let mut views = vec![("ip -brief address", "/"), ("ip route", ""), ("nft list ruleset", "saddr")];
    if backend["Type"] == "vxlan" {
        views.insert(2, ("bridge fdb show", "dst"));
    }
    for (view, characteristic) in views {
        println!("      {}", paint("1", &format!("{} # {view}", node.name())));
        let text = node.namespace().run(view)?;
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains(characteristic) && !line.starts_with("lo ")).collect();
        for line in lines.iter().take(4) {
            println!("      {}", line.trim());
        }
        if lines.len() > 4 {
            println!("      ... {} more", lines.len() - 4);
        }
        println!();
    }
    Ok(())
}

/// Somebody deletes a route; how long it is gone.
fn heal(cluster: &Cluster) -> Outcome {
    let node = cluster.node("n1");
    let record = peer::read(node.store(), "n2")?;
    let field = if record["Subnet"].is_string() { "Subnet" } else { "IPv6Subnet" };
    let range = record[field].as_str().context("the record has a subnet")?;
    let family = if field == "Subnet" { Family::V4 } else { Family::V6 };
    println!("{} somebody types on n1: ip route del {range}", paint("1;34", "==>"));
    let gone = Instant::now();
    node.namespace().run(&format!("ip route del {range}"))?;
    eventually(seconds(10), "the route is back", || {
        ensure!(kernel::route(node.namespace(), family, range)?.is_some(), "there is none to {range}");
        Ok(())
    })?;
    println!("      it is back after {} ms, of which most is the looking\n", gone.elapsed().as_millis());
    Ok(())
}

/// Another backend, while a packet travels every 10 ms between every pair of pods of different nodes.
fn change(cluster: &Cluster, pods: &[(&Node, Pod)], from: &Value) -> Outcome {
    let to = if from["Type"] == "vxlan" && from["DirectRouting"] != true {
        json!({ "Type": "vxlan", "DirectRouting": true })
    } else {
        json!({ "Type": "vxlan" })
    };
    let conf =
        std::fs::read_to_string(cluster.node("n1").store().join("net-conf.json")).context("read net-conf.json")?;
    let mut conf: Value = serde_json::from_str(&conf).context("read net-conf.json")?;
    conf["Backend"] = to.clone();
    println!("{} net-conf.json changes from {from} to {to}", paint("1;34", "==>"));
    let mut streams = Vec::new();
    for (node, source) in pods {
        for (_, destination) in pods.iter().filter(|(other, _)| other.name() != node.name()) {
            for (_, address) in destination.addresses().iter() {
                streams.push(Stream::start(source.namespace(), *address)?);
            }
        }
    }
    cluster.fabric.write_net_conf(&conf)?;
    let direct = json!({ "Type": "host-gw" });
    for node in &cluster.fabric.nodes {
        eventually(seconds(30), &format!("{} has changed", node.name()), || {
            let record = peer::read(node.store(), node.name())?;
            let received = record["Receives"].as_array().context("the record says what is received")?;
            let has = |wanted: &str| received.iter().any(|way| way["Type"] == wanted);
            let is_done = has("vxlan") && received.contains(&direct) == (to["DirectRouting"] == true);
            ensure!(is_done, "it receives {received:?}");
            Ok(())
        })?;
    }
    let (mut sent, mut lost) = (0, 0);
    for stream in streams {
        let count = stream.stop()?;
        sent += count.sent;
        lost += count.lost;
    }
    println!("      {sent} packets sent meanwhile, {lost} lost\n");
    ensure!(lost == 0, "{lost} packets were lost");
    Ok(())
}

/// A Service over the pods of three nodes: its shares, its node port, affinity, an endpoint that goes under load, and one packet's way.
fn balance(cluster: &Cluster, services: &ServicesDir, pods: &[(&Node, Pod)]) -> Outcome {
    println!("{} a Service from a directory of Kubernetes YAML, with a pod on each node\n", paint("1;34", "==>"));
    let (client, cluster_ip) = (&pods[1].1, SocketAddr::from(([10, 96, 0, 10], 80)));
    let (mut servers, mut endpoints) = (Vec::new(), Vec::new());
    for (node, pod) in [&pods[0], &pods[2], &pods[3]] {
        servers.push(Answering::start(pod.namespace(), pod.address(Family::V4)?, pod.name())?);
        endpoints.push((pod.address(Family::V4)?, node.name()));
    }
    let publish = |more: &str, endpoints: &[(IpAddr, &str)]| -> Outcome {
        let more = format!("  type: NodePort\n{more}");
        let text = service("web", "10.96.0.10", ", nodePort: 30080", &more) + &slice("web", endpoints);
        services.write("web.yaml", &text)?;
        cluster.fabric.nodes.iter().try_for_each(|node| await_endpoints(node, "default/web", endpoints.len()))
    };
    publish("", &endpoints)?;
    println!(
        "      {:<34}{}",
        format!("{} > {cluster_ip}, 300 times", client.name()),
        shares(client.namespace(), cluster_ip, 300)?
    );
    let (outside, node) = (cluster.node("n3"), cluster.node("n1"));
    if let Some(address) = node.addresses().get(Family::V4) {
        let node_port = SocketAddr::new(*address, 30080);
        println!(
            "      {:<34}{}",
            format!("{} > {node_port}, 300 times", outside.name()),
            shares(outside.namespace(), node_port, 300)?
        );
    }
    publish("  sessionAffinity: ClientIP\n", &endpoints)?;
    println!("      {:<34}{}", "with sessionAffinity, 50 times", shares(client.namespace(), cluster_ip, 50)?);
    publish("", &endpoints)?;
    let on = pods[1].0.namespace();
    let load = vec![Repeated::start(client.namespace(), move || ask(cluster_ip).map(drop))];
    repeated::go_on(&load)?;
    let (before, since) = changes(on)?;
    publish("", &endpoints[..2])?;
    let (after, until) = changes(on)?;
    ensure!(after > before, "netd has not counted the change");
    let microseconds = (until - since) / (after - before) * 1e6;
    repeated::go_on(&load)?;
    let requests = load.iter().map(Repeated::count).sum::<u64>();
    repeated::unharmed(load)?;
    println!("      {:<34}{}", "pods a and c alone from now on", shares(client.namespace(), cluster_ip, 50)?);
    println!(
        "      {requests} requests around that change, 0 failed; netd brought it into the kernel in {microseconds:.0} \u{b5}s\n"
    );
    let (from, to) = (client.address(Family::V4)?.to_string(), cluster_ip.to_string());
    println!("      {}", paint("1", &format!("{} # netd trace {from} {to}", node.name())));
    let output = node.run_netd("trace", &[&from, &to])?;
    // Where it may go, and the rule that sends it there.
    let is_shown = |line: &&str| !line.starts_with(' ') || line.contains(" dnat ");
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(is_shown) {
        println!("      {line}");
    }
    println!();
    Ok(())
}

/// Which pods answer so many connections, and how often each.
fn shares(from: &Namespace, to: SocketAddr, connections: usize) -> Outcome<String> {
    let counts = from.within(|| -> Outcome<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for _ in 0..connections {
            *counts.entry(ask(to)?.0).or_default() += 1;
        }
        Ok(counts)
    })??;
    Ok(counts.iter().map(|(pod, count)| format!("{pod} {count}")).collect::<Vec<_>>().join(", "))
}

/// What the daemon says of itself.
fn status(node: &Node) -> Outcome {
    println!("{} netd status on {}\n", paint("1;34", "==>"), node.name());
    let output = node.run_netd("status", &[])?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("      {line}");
    }
    println!();
    Ok(())
}

/// Waits until somebody ends it.
fn keep(cluster: &Cluster) -> Outcome {
    // The mount of /proc is the one from outside, so this is the number that others know this program by.
    let itself = std::fs::read_link("/proc/self").context("find the program's number")?;
    let mapped = std::env::var_os(isolation::MAPPED).is_some();
    let (enter, flags) = if mapped { ("", "--user --preserve-credentials ") } else { ("sudo ", "") };
    println!("{} it stays until Ctrl-C. From another terminal:\n", paint("1;34", "==>"));
    println!("      {enter}nsenter --target {} {flags}--mount --net sh      # then, in there:", itself.display());
    for node in &cluster.fabric.nodes {
        println!("      nsenter --net={} sh      # {}", node.namespace().path().display(), node.name());
    }
    println!("      cat {}/nodes/*.json      # the store", cluster.fabric.store.display());
    println!("\n      In a node: ip route, bridge fdb, nft list ruleset, tcpdump -ni eth0");
    loop {
        thread::park();
    }
}
