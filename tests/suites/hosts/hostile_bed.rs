//! Two nodes with a pod each, a host beside them that is no node, and records of nodes that are not there.

use std::process::Output;

use netd_tests::backend::host_gw;
pub(crate) use netd_tests::backend::{direct, vxlan};
use netd_tests::flow::Stream;
use netd_tests::{
    Cluster, Context, Fabric, Namespace, Node, Outcome, Peer, Pod, Stack, Topology, ensure, eventually, net_conf,
    seconds,
};
use serde_json::{Value, json};

/// The backends, by name.
pub(crate) fn backends() -> [(&'static str, Value); 3] {
    [("vxlan", vxlan()), ("host-gw", host_gw()), ("DirectRouting", direct())]
}

/// `n1`, `n2` and machines that no netd starts on by itself.
pub(crate) fn fabric(stack: Stack, backend: &Value, others: &[&'static str]) -> Outcome<Fabric> {
    let machines = ["n1", "n2"].iter().chain(others).map(|name| (*name, 1)).collect();
    let fabric = Topology { machines, underlay: stack, mtu: 1500 }.build()?;
    fabric.write_net_conf(&net_conf(stack, backend))?;
    Ok(fabric)
}

/// Netd on `n1` and `n2`, and pods that have reached each other.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) a: Pod,
    pub(crate) b: Pod,
}

impl Bed {
    pub(crate) fn start(stack: Stack, backend: &Value, others: &[&'static str]) -> Outcome<Self> {
        Self::on(fabric(stack, backend, others)?, &["--ip-masq"])
    }

    pub(crate) fn on(fabric: Fabric, arguments: &[&str]) -> Outcome<Self> {
        let cluster = Cluster::on(fabric, arguments)?;
        let (a, b) = (cluster.pod("n1", "a")?, cluster.pod("n2", "b")?);
        cluster.settle(&a, &b)?;
        cluster.settle(&b, &a)?;
        Ok(Self { cluster, a, b })
    }

    pub(crate) fn node(&self) -> &Node {
        self.cluster.node("n1")
    }

    pub(crate) fn n1(&self) -> &Namespace {
        self.node().namespace()
    }

    /// What n2's record says in a field.
    pub(crate) fn record(&self, node: &str, field: &str) -> Outcome<String> {
        let record = netd_tests::peer::read(&self.cluster.fabric.store, node)?;
        record[field].as_str().map(str::to_owned).context(format!("{node} has no {field} in {record}"))
    }

    pub(crate) fn write(&self, peer: &Peer) -> Outcome {
        peer.write(&self.cluster.fabric.store)
    }

    /// Streams of echo requests from n1's pod to n2's and back, in each family.
    pub(crate) fn streams(&self) -> Outcome<Vec<Stream>> {
        let mut streams = Vec::new();
        for (from, to) in [(&self.a, &self.b), (&self.b, &self.a)] {
            for (_, address) in to.addresses().iter() {
                streams.push(Stream::start(from.namespace(), *address)?);
            }
        }
        Ok(streams)
    }

    /// Fails where a packet between the pods is lost while `body` runs, and up to a talk after it.
    pub(crate) fn nothing_lost(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        let streams = self.streams()?;
        let done = body();
        let talk = self.cluster.talk(&self.a, &self.b);
        for stream in streams {
            stream.nothing_lost().map_err(|failure| self.cluster.with_logs(failure))?;
        }
        done.and(talk)
    }

    /// Fails unless netd on n1 names a refused record with all of these words, and is ready all the same.
    pub(crate) fn refused(&self, peer: &str, words: &[&str]) -> Outcome {
        refused(self.node(), peer, words).map_err(|failure| self.cluster.with_logs(failure))
    }

    /// Waits until netd on n1 has read all that was written so far: a record that anybody believes has its route then.
    pub(crate) fn caught_up(&self) -> Outcome {
        caught_up(self.node(), &self.cluster.fabric)
    }
}

/// Waits until netd on a node has read all that was written so far: a record that anybody believes has its route then.
pub(crate) fn caught_up(node: &Node, fabric: &Fabric) -> Outcome {
    // Nodes of each backend reach it.
    let tunnel = json!({ "Type": "vxlan", "VNI": 1, "Port": 8472, "VtepMAC": "02:00:00:00:02:de" });
    let honest = stranger("honest", 222).set("Receives", json!([tunnel, { "Type": "host-gw" }]));
    honest.write(&fabric.store)?;
    let route = |there: bool| netd_tests::node::routed(node, "10.244.222.0/24", there);
    route(true).context("an honest peer comes")?;
    honest.remove(&fabric.store)?;
    route(false).context("an honest peer goes")
}

/// Waits until netd on a node names a refused record with all of these words, and is ready all the same.
pub(crate) fn refused(node: &Node, peer: &str, words: &[&str]) -> Outcome {
    eventually(seconds(5), &format!("netd status names {peer} with {words:?}"), || refuses(node, peer, words))
}

/// The same without waiting.
pub(crate) fn refuses(node: &Node, peer: &str, words: &[&str]) -> Outcome {
    let seen = status(node)?;
    let reason = seen["leftOut"][peer].as_str().unwrap_or_default().to_owned();
    let problems = seen["problems"].as_array().into_iter().flatten().map(Value::to_string);
    let named = problems.filter(|problem| problem.contains(peer)).chain([reason]);
    let mut named = named.filter(|text| !text.is_empty());
    let right = named.any(|text| words.iter().all(|word| text.contains(word)));
    ensure!(right, "it says {}, and {}", seen["leftOut"], seen["problems"]);
    ensure!(seen["ready"] == true, "it is not ready: {}", seen["problems"]);
    Ok(())
}

/// A node on `192.168.1.N` as netd would write it: a /24 of the same number, and a VXLAN end of its own.
pub(crate) fn stranger(name: &str, n: u8) -> Peer {
    let mac = format!("02:00:00:00:02:{n:02x}");
    receives(Peer::vxlan(name, &format!("10.244.{n}.0/24"), &format!("192.168.1.{n}"), &mac), &mac)
}

/// The same where it says that it receives at another hardware address.
pub(crate) fn receives(peer: Peer, mac: &str) -> Peer {
    let entry = json!({ "Type": "vxlan", "VNI": 1, "Port": 8472, "VtepMAC": mac });
    peer.set("Receives", json!([entry])).set("Sends", json!([sends(8472)]))
}

/// An entry of `Sends`.
pub(crate) fn sends(port: u16) -> Value {
    json!({ "Type": "vxlan", "VNI": 1, "Port": port })
}

/// The document of `netd status`.
pub(crate) fn status(node: &Node) -> Outcome<Value> {
    let output = node.run_netd("status", &["-o", "json"])?;
    serde_json::from_slice(&output.stdout).context(format!("read the status: {}", said(&output)))
}

/// Waits until netd is ready.
pub(crate) fn await_ready(node: &Node) -> Outcome {
    eventually(seconds(10), "netd is ready", || {
        let seen = status(node)?;
        ensure!(seen["ready"] == true, "{}", seen["problems"]);
        Ok(())
    })
}

/// All findings of `netd doctor` but the good ones.
pub(crate) fn troubles(node: &Node) -> Outcome<Vec<Value>> {
    troubles_by(node, &[])
}

/// The same with more arguments.
pub(crate) fn troubles_by(node: &Node, arguments: &[&str]) -> Outcome<Vec<Value>> {
    let output = node.run_netd("doctor", &[&["-o", "json"], arguments].concat())?;
    let findings: Vec<Value> =
        serde_json::from_slice(&output.stdout).context(format!("read what doctor printed: {}", said(&output)))?;
    Ok(findings.into_iter().filter(|finding| finding["verdict"] != "ok").collect())
}

/// Both streams of a program's output.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// One value under `/proc/sys`.
pub(crate) fn sysctl(namespace: &Namespace, key: &str) -> Outcome<String> {
    namespace.run(&format!("cat /proc/sys/{key}")).map(|text| text.trim().to_owned())
}
