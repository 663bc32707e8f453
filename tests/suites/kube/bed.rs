//! Machines with netd, and one more that runs an API server: netd may do there what its manifest lets it, and no more.

use std::path::PathBuf;

use dataplane::types::Family;
use netd_tests::apiserver::{ACCOUNT, ApiServer, node_object};
use netd_tests::daemon::Daemon;
pub(crate) use netd_tests::node::routed;
use netd_tests::{Cluster, Context, Fabric, Node, Outcome, Stack, Topology, ensure, eventually, net_conf, seconds};
use serde_json::{Value, json};

/// Before the names of flannel's annotations.
pub(crate) const PREFIX: &str = "flannel.alpha.coreos.com/";

/// The nodes of [`topology`].
pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];

const MAP: &str = "/api/v1/namespaces/netd/configmaps/netd-cfg";

/// A fabric whose machine `api` runs the API server.
pub(crate) struct Bed {
    pub(crate) fabric: Fabric,
    pub(crate) server: ApiServer,
    pub(crate) kubeconfig: PathBuf,
}

/// One segment with `n1`, `n2`, `n3` and `api`.
pub(crate) fn topology() -> Topology {
    Topology::one_segment(Stack::V4).with("api", 1)
}

pub(crate) fn vxlan() -> Value {
    net_conf(Stack::V4, &json!({ "Type": "vxlan" }))
}

/// Where a node is in the API.
pub(crate) fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

/// The pods' ranges of `n1`, `n2`, ...
pub(crate) fn ranges(node: &str, stack: Stack) -> Vec<String> {
    let number = node.trim_start_matches('n');
    let v4 = stack.has(Family::V4).then(|| format!("10.244.{number}.0/24"));
    let v6 = stack.has(Family::V6).then(|| format!("fd00:10:244:{number}::/64"));
    v4.into_iter().chain(v6).collect()
}

impl Bed {
    /// With IPv4 pods, this configuration, and a Node for each machine.
    pub(crate) fn with(conf: &Value) -> Outcome<Self> {
        let bed = Self::bare(&topology(), conf)?;
        bed.add_nodes(Stack::V4)?;
        Ok(bed)
    }

    /// Without a Node.
    pub(crate) fn bare(topology: &Topology, conf: &Value) -> Outcome<Self> {
        let fabric = topology.build()?;
        let server = ApiServer::start(&fabric, "api", Stack::V4)?;
        let kubeconfig = server.admit_netd()?;
        let map = json!({ "metadata": { "name": "netd-cfg" }, "data": { "net-conf.json": conf.to_string() } });
        server.create("/api/v1/namespaces/netd/configmaps", &map)?;
        Ok(Self { fabric, server, kubeconfig })
    }

    pub(crate) fn add_nodes(&self, stack: Stack) -> Outcome {
        for name in NODES {
            let ranges = ranges(name, stack);
            self.add_node(name, &ranges.iter().map(String::as_str).collect::<Vec<_>>(), &json!({}))?;
        }
        Ok(())
    }

    /// A Node, with annotations by their names behind the prefix.
    pub(crate) fn add_node(&self, name: &str, ranges: &[&str], annotations: &Value) -> Outcome {
        self.server.create("/api/v1/nodes", &node_object(name, ranges, &prefixed(annotations), 2)).map(drop)
    }

    /// A Node of flannel's that nobody is behind, `192.168.1.N`.
    pub(crate) fn add_peer(&self, name: &str, n: u8) -> Outcome {
        add_peer(&self.server, name, n)
    }

    /// Waits until a change that comes now, another peer with `10.244.N.0/24`, is in the kernel of a node: its netd has read
    /// every change before.
    pub(crate) fn passes_on(&self, node: &str, n: u8) -> Outcome {
        self.add_peer(&format!("after-{n}"), n)?;
        routed(self.node(node), &format!("10.244.{n}.0/24"), true)
    }

    /// Changes annotations, by their names behind the prefix.
    pub(crate) fn annotate(&self, node: &str, annotations: &Value) -> Outcome {
        self.server.patch(&path(node), &json!({ "metadata": { "annotations": prefixed(annotations) } })).map(drop)
    }

    /// The annotation of this name behind the prefix; empty where there is none.
    pub(crate) fn annotation(&self, node: &str, name: &str) -> Outcome<String> {
        let node = self.server.get(&path(node))?;
        let value = node["metadata"]["annotations"][format!("{PREFIX}{name}")].as_str();
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Waits until it is this.
    pub(crate) fn await_annotation(&self, node: &str, name: &str, wanted: &str) -> Outcome {
        eventually(seconds(60), &format!("{name} of {node} is {wanted:?}"), || {
            let value = self.annotation(node, name)?;
            ensure!(value == wanted, "it is {value:?}");
            Ok(())
        })
    }

    /// Changes the `ConfigMap`.
    pub(crate) fn configure(&self, conf: &str) -> Outcome {
        self.server.patch(MAP, &json!({ "data": { "net-conf.json": conf } })).map(drop)
    }

    /// Waits for a Warning Event on a node whose message has this in it, and gives it.
    pub(crate) fn await_event(&self, node: &str, reason: &str, part: &str) -> Outcome<Value> {
        eventually(seconds(30), &format!("{node} has an Event {reason} with {part:?}"), || {
            let events = self.events(node)?;
            let found = events.iter().find(|event| {
                event["reason"] == reason
                    && event["type"] == "Warning"
                    && event["message"].as_str().is_some_and(|message| message.contains(part))
            });
            found.cloned().context(format!("its Events are {events:?}"))
        })
    }

    /// The Events of a node.
    pub(crate) fn events(&self, node: &str) -> Outcome<Vec<Value>> {
        let list = self.server.get("/api/v1/namespaces/default/events")?;
        let all = list["items"].as_array().cloned().unwrap_or_default();
        let of_node =
            |event: &Value| event["involvedObject"]["kind"] == "Node" && event["involvedObject"]["name"] == node;
        Ok(all.into_iter().filter(of_node).collect())
    }

    /// Waits until the condition `NetworkUnavailable` of a node is False.
    pub(crate) fn await_available(&self, node: &str) -> Outcome {
        eventually(seconds(60), &format!("the network of {node} is available"), || {
            let status = self.unavailable(node)?;
            ensure!(status == "False", "the condition is {status:?}");
            Ok(())
        })
    }

    /// The status of the condition `NetworkUnavailable`.
    pub(crate) fn unavailable(&self, node: &str) -> Outcome<String> {
        let node = self.server.get(&path(node))?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable");
        Ok(found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned())
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.fabric.node(name)
    }

    /// The flags of a node's netd.
    pub(crate) fn flags(&self, node: &str) -> Vec<String> {
        flags(&self.kubeconfig.display().to_string(), &self.fabric.disk().join(node).display().to_string())
    }

    /// Starts netd on a node and waits for nothing.
    pub(crate) fn launch(&self, node: &str, more: &[&str]) -> Outcome<Daemon> {
        let flags = self.flags(node);
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.node(node).launch_netd(&flags)
    }

    /// Starts netd on a node and waits until it is ready.
    pub(crate) fn start(&self, node: &str, more: &[&str]) -> Outcome<Daemon> {
        let daemon = self.launch(node, more)?;
        daemon.await_ready()?;
        Ok(daemon)
    }

    /// What `netd VERB` prints.
    pub(crate) fn run(&self, node: &str, verb: &str) -> Outcome<String> {
        let flags = self.flags(node);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let output = self.node(node).run_netd(verb, &flags)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(text(&output.stdout) + &text(&output.stderr))
    }

    /// netd on all nodes. What is left of the bed is the API server.
    pub(crate) fn cluster(self) -> Outcome<(Cluster, ApiServer)> {
        let disk = self.fabric.disk().join("%n").display().to_string();
        let flags = flags(&self.kubeconfig.display().to_string(), &disk);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let cluster = Cluster::on(self.fabric, &flags)?;
        Ok((cluster, self.server))
    }

    /// Requests of netd's that were answered so, by what they were.
    pub(crate) fn answered(&self, fits: impl Fn(u64) -> bool) -> Outcome<Vec<String>> {
        let requests = self.server.requests()?;
        let of_netd = |event: &&Value| event["user"]["username"] == ACCOUNT;
        let code = |event: &&Value| fits(event["responseStatus"]["code"].as_u64().unwrap_or_default());
        let complete = |event: &&Value| event["stage"] == "ResponseComplete";
        let shown = |event: &Value| {
            format!(
                "{} {}",
                event["verb"].as_str().unwrap_or_default(),
                event["requestURI"].as_str().unwrap_or_default()
            )
        };
        Ok(requests.iter().filter(of_netd).filter(complete).filter(code).map(shown).collect())
    }
}

/// The flags of a netd whose node has this folder.
pub(crate) fn flags(kubeconfig: &str, disk: &str) -> Vec<String> {
    vec![
        "--kube-subnet-mgr".to_owned(),
        format!("--kubeconfig-file={kubeconfig}"),
        "--net-conf-configmap=netd/netd-cfg".to_owned(),
        format!("--state-dir={disk}/state"),
    ]
}

/// A new configuration in the `ConfigMap` of an API server.
pub(crate) fn configure(server: &ApiServer, conf: &Value) -> Outcome {
    server.patch(MAP, &json!({ "data": { "net-conf.json": conf.to_string() } })).map(drop)
}

/// A Node of flannel's that nobody is behind, `192.168.1.N`, in an API server.
pub(crate) fn add_peer(server: &ApiServer, name: &str, n: u8) -> Outcome {
    let node = node_object(name, &[&format!("10.244.{n}.0/24")], &prefixed(&flannels(n)), 2);
    server.create("/api/v1/nodes", &node).map(drop)
}

fn prefixed(annotations: &Value) -> Value {
    let all = annotations.as_object().cloned().unwrap_or_default();
    all.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
}

/// What flannel writes for a node at `192.168.1.N`.
pub(crate) fn flannels(n: u8) -> Value {
    json!({
        "backend-data": format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:00:{n:02x}"}}"#),
        "backend-type": "vxlan",
        "kube-subnet-manager": "true",
        "public-ip": format!("192.168.1.{n}"),
    })
}
