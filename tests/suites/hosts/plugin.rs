//! The plugin among others, and what others leave behind.

use std::path::PathBuf;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::plugin::{self, Attachment};
use netd_tests::suite::test;
use netd_tests::{Context, Fabric, Namespace, Node, Outcome, Pod, Stack, ensure, eventually, flow, kernel, seconds};
use serde_json::{Value, json};

use crate::hostile_bed::{Bed, backends, fabric, troubles, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for pods in [Stack::V4, Stack::Dual] {
        let name = "a second interface with a gateway leaves the first one its place";
        trials.push(test(format!("{name}/{pods:?}"), move || second_gateway(pods)));
    }
    for (name, network) in [("a part", "10.245.0.0/16"), ("the whole", "10.245.7.0/24")] {
        let subnet = format!("the node's subnet is {name} of its network");
        trials.push(test(format!("a second network of netd beside the first where {subnet}"), move || second(network)));
    }
    trials.push(test("a network that is the node's subnet as a whole is a pod's first one", whole));
    trials.extend([
        test("addresses of pods that vanished are taken back when there is no other", vanished),
        test("addresses that were taken just now are not taken back", young),
        test("netd takes back the addresses of pods that vanished at its start, and says so", taken_back_at_start),
    ]);
    for (name, backend) in backends() {
        let title = "with its reservation lost, a running pod's address goes to nobody else";
        trials.push(test(format!("{title}/{name}"), move || lost_reservations(&backend)));
    }
    trials.push(test("doctor finds two pods with one address", one_address_twice));
    trials
}

/// A configuration that another plugin's user would write, with addresses of its own.
fn other(node: &Node, name: &str, ranges: &[&str]) -> Value {
    let ranges: Vec<Value> = ranges.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "netd", "bridge": format!("br-{name}"), "isDefaultGateway": true,
        "ipam": { "type": "host-local", "ranges": ranges, "dataDir": node.cni_data_dir() },
    })
}

/// A further interface of a pod, as a meta plugin adds it.
fn beside(node: &Node, pod: &Pod, conf: Value) -> Outcome<Attachment> {
    let mut attachment = plugin::attachment_by(node, &pod.attachment().container, pod.namespace(), conf)?;
    "net1".clone_into(&mut attachment.ifname);
    Ok(attachment)
}

fn default_routes(pod: &Namespace, pods: Stack) -> Outcome<Vec<Value>> {
    let mut routes = Vec::new();
    for family in pods.families() {
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        routes.extend(pod.json(&format!("ip -j {flag} route show default"))?);
    }
    Ok(routes)
}

/// Adds an interface to n1's pod while packets flow, and takes it away again.
fn added_beside(bed: &Bed, pods: Stack, conf: Value, gateways: &[&str]) -> Outcome {
    let before = default_routes(bed.a.namespace(), pods)?;
    let attachment = beside(bed.node(), &bed.a, conf)?;
    bed.nothing_lost(|| {
        let result = attachment.succeed("ADD")?;
        for gateway in gateways {
            flow::ping(bed.a.namespace(), gateway.parse().context("a gateway's address")?)?;
        }
        let now = default_routes(bed.a.namespace(), pods)?;
        ensure!(before.iter().all(|route| now.contains(route)), "the default routes were {before:?} and are {now:?}");
        attachment.clone().after(&result).succeed("DEL")?;
        let after = default_routes(bed.a.namespace(), pods)?;
        ensure!(before == after, "the default routes were {before:?} and are {after:?}");
        Ok(())
    })
}

fn second_gateway(pods: Stack) -> Outcome {
    let bed = Bed::start(pods, &vxlan(), &[])?;
    let (ranges, gateways) = (["10.99.0.0/24", "fd00:99::/64"], ["10.99.0.1", "fd00:99::1"]);
    let count = pods.families().count();
    added_beside(&bed, pods, other(bed.node(), "more", &ranges[..count]), &gateways[..count])
}

/// A `subnet.env` of a second netd, and the plugin's configuration for it.
fn second_netd(fabric: &Fabric, node: &Node, network: &str) -> Outcome<Value> {
    let file: PathBuf = fabric.disk().join("second.env");
    let text =
        format!("FLANNEL_NETWORK={network}\nFLANNEL_SUBNET=10.245.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n");
    std::fs::write(&file, text).context("write a second subnet.env")?;
    Ok(json!({
        "cniVersion": "1.0.0", "name": "cbr1", "type": "netd", "subnetFile": file,
        "delegate": { "bridge": "cni1", "isDefaultGateway": true }, "bridge": "cni1",
        "ipam": { "dataDir": node.cni_data_dir() },
    }))
}

fn second(network: &str) -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let conf = second_netd(&bed.cluster.fabric, bed.node(), network)?;
    added_beside(&bed, Stack::V4, conf, &["10.245.7.1"])
}

fn whole() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let (n1, pod) = (fabric.node("n1"), Namespace::new("pod")?);
    let attachment = plugin::attachment_by(n1, "one", &pod, second_netd(&fabric, n1, "10.245.7.0/24")?)?;
    attachment.succeed("ADD")?;
    flow::ping(&pod, [10, 245, 7, 1].into())
}

/// Five addresses, and a pod at each of them.
struct Full {
    fabric: Fabric,
    pods: Vec<(Namespace, Attachment)>,
}

impl Full {
    fn new() -> Outcome<Self> {
        let fabric = fabric(Stack::V4, &vxlan(), &[])?;
        let mut full = Self { fabric, pods: Vec::new() };
        for number in 0..5 {
            let pod = Namespace::new("pod")?;
            let attachment = full.attachment(&format!("c{number}"), &pod)?;
            attachment.succeed("ADD")?;
            full.pods.push((pod, attachment));
        }
        Ok(full)
    }

    fn attachment(&self, container: &str, pod: &Namespace) -> Outcome<Attachment> {
        let n1 = self.fabric.node("n1");
        plugin::attachment_by(n1, container, pod, other(n1, "five", &["10.9.0.0/29"]))
    }

    /// The namespaces of all pods but the first go, without a DEL, as at a power cut.
    fn vanish(&mut self) -> Outcome {
        for (pod, _) in &mut self.pods[1..] {
            pod.remove()?;
        }
        let n1 = self.fabric.node("n1").namespace();
        eventually(seconds(10), "the host ends go too", || {
            let ports = n1.json("ip -j link show master br-five")?;
            ensure!(ports.len() == 1, "{} ports are left", ports.len());
            Ok(())
        })
    }

    fn add_one(&self) -> Outcome<Value> {
        let pod = Namespace::new("new")?;
        let result = self.attachment("new", &pod)?.succeed("ADD")?;
        flow::ping(&pod, [10, 9, 0, 1].into())?;
        Ok(result)
    }
}

/// Makes reservations older than any boot.
fn age(folder: &std::path::Path) -> Outcome {
    netd_tests::namespace::own().shell(&format!("touch -d @1000 {}/*.*.*.*", folder.display())).map(drop)
}

fn vanished() -> Outcome {
    let mut full = Full::new()?;
    full.vanish()?;
    let folder = full.fabric.node("n1").cni_data_dir().join("five");
    age(&folder)?;
    let result = full.add_one()?;
    let (living, _) = (&full.pods[0].0, &full.pods[0].1);
    ensure!(result["ips"][0]["address"] != "10.9.0.2/29", "it got the living pod's address: {result}");
    flow::ping(living, [10, 9, 0, 1].into())
}

fn young() -> Outcome {
    let mut full = Full::new()?;
    full.vanish()?;
    let pod = Namespace::new("new")?;
    let output = full.attachment("new", &pod)?.call("ADD")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && said.contains("no IP addresses available"), "it says {said}");
    Ok(())
}

fn taken_back_at_start() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    let (source, folder) = (fabric.disk().join("list.json"), n1.cni_data_dir());
    let list = json!({
        "name": "cbr0", "cniVersion": "1.0.0",
        "plugins": [{ "type": "netd", "ipam": { "dataDir": folder } }],
    });
    std::fs::write(&source, list.to_string()).context("write a list")?;
    let source = source.to_string_lossy().into_owned();
    let arguments = ["--cni-conf-source", source.as_str()];
    let daemon = n1.start_netd(&arguments)?;
    let living = Pod::add(n1, "living")?;
    let mut gone = Vec::new();
    for name in ["one", "two"] {
        let mut pod = Namespace::new(name)?;
        let result = plugin::attachment(n1, name, &pod)?.succeed("ADD")?;
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
        gone.push(address.to_owned());
        pod.remove()?;
    }
    daemon.crash()?;
    eventually(seconds(10), "the host ends go too", || {
        let ports = n1.namespace().json("ip -j link show master cni0")?;
        ensure!(ports.len() == 1, "{} ports are left", ports.len());
        Ok(())
    })?;
    let folder = folder.join("cbr0");
    age(&folder)?;
    let daemon = n1.start_netd(&arguments)?;
    eventually(seconds(5), "what nobody has is free", || {
        let left = gone.iter().find(|address| folder.join(address).exists());
        ensure!(left.is_none(), "{left:?} is still reserved");
        let log = daemon.log();
        ensure!(gone.iter().all(|address| log.contains(address.as_str())), "the log does not name {gone:?}: {log}");
        Ok(())
    })?;
    let kept = folder.join(living.address(Family::V4)?.to_string());
    ensure!(kept.exists(), "the living pod's address is free");
    Ok(())
}

fn lost_reservations(backend: &Value) -> Outcome {
    let bed = Bed::start(Stack::V4, backend, &[])?;
    let own = bed.a.address(Family::V4)?;
    let folder = bed.node().cni_data_dir();
    bed.nothing_lost(|| {
        bed.n1().shell(&format!("rm -rf {}/*", folder.display()))?;
        ensure!(!folder.join("cbr0").exists(), "the reservations are there");
        let pod = bed.cluster.pod("n1", "c")?;
        let address = pod.address(Family::V4)?;
        ensure!(address != own, "the next pod got {own}, which a running pod has");
        bed.cluster.settle(&pod, &bed.b)?;
        flow::ping(pod.namespace(), own)
    })
}

fn one_address_twice() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let own = bed.a.address(Family::V4)?;
    let card = kernel::existing_link(bed.a.namespace(), "eth0")?["address"].as_str().unwrap_or_default().to_owned();
    let (mut subnet, gateway) = (bed.record("n1", "Subnet")?, bed.a.result()["ips"][0]["gateway"].clone());
    subnet = subnet.split('/').nth(1).unwrap_or_default().to_owned();
    let twin = Namespace::new("twin")?;
    bed.n1().ip(&format!(
        "link add veth-twin type veth peer name eth0 address {card} netns {}\nlink set veth-twin mtu 1450 master cni0 up",
        twin.name()
    ))?;
    twin.ip(&format!("addr add {own}/{subnet} dev eth0\nlink set eth0 mtu 1450 up"))?;
    let gateway = gateway.as_str().context("a pod has a gateway")?.to_owned();
    eventually(seconds(5), "the twin speaks", || twin.run(&format!("ping -n -q -c 1 -W 1 {gateway}")))?;
    let found = troubles(bed.node())?;
    let own = own.to_string();
    let named = found.iter().any(|finding| {
        finding.to_string().contains(&own) && finding.to_string().contains("veth-twin") && finding["remedy"] != ""
    });
    ensure!(named, "doctor says {}", Value::from(found));
    Ok(())
}
