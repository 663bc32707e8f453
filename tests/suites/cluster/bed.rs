//! A real cluster with netd in it, as a user installs it: the image, the manifest, and nothing else.

use std::path::{Path, PathBuf};

use netd_tests::apiserver::ACCOUNT;
use netd_tests::kubernetes::{Kubernetes, Ranges, RealPod};
use netd_tests::{Context, Failure, Load, Outcome, Stack, Topology, ensure, eventually, flow, net_conf, seconds};
use serde_json::{Value, json};

pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];
const CONFIGURATION: &str = "/api/v1/namespaces/netd/configmaps/netd-cfg";

pub(crate) struct Bed {
    pub(crate) cluster: Kubernetes,
    pub(crate) pods: Vec<RealPod>,
    stack: Stack,
}

/// What a user applies.
pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

impl Bed {
    /// A cluster with netd on every node, and a pod on each.
    pub(crate) fn start(topology: &Topology, stack: Stack) -> Outcome<Self> {
        let mut bed = Self::empty(topology, stack)?;
        bed.apply()?;
        bed.add_pods()?;
        Ok(bed)
    }

    /// The same with IPv4 and no proxy in netd.
    pub(crate) fn without_proxy(topology: &Topology) -> Outcome<Self> {
        let mut bed = Self::empty(topology, Stack::V4)?;
        let path = manifests().join("netd.yml");
        let manifest = std::fs::read_to_string(&path).context("read netd.yml")?;
        bed.cluster.server.apply(&manifest.replace("--proxy=auto", "--proxy=off"))?;
        bed.await_network()?;
        bed.add_pods()?;
        Ok(bed)
    }

    fn add_pods(&mut self) -> Outcome {
        for name in NODES {
            self.pods.push(self.cluster.pod(name, &format!("pod-{name}")).map_err(|failure| self.with_logs(failure))?);
        }
        Ok(())
    }

    /// A cluster without a pod network, whose nodes have netd's image.
    pub(crate) fn empty(topology: &Topology, stack: Stack) -> Outcome<Self> {
        Self::with_ranges(topology, stack, Ranges::Allocated)
    }

    /// The same, with another source of the nodes' ranges.
    pub(crate) fn with_ranges(topology: &Topology, stack: Stack, ranges: Ranges) -> Outcome<Self> {
        let cluster = Kubernetes::start(topology, stack, ranges)?;
        Ok(Self { cluster, pods: Vec::new(), stack })
    }

    /// The families of its nodes and pods.
    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    /// `kubectl apply`, until netd is ready on every node and every node is ready for pods.
    pub(crate) fn apply(&self) -> Outcome {
        self.apply_alone()?;
        self.await_network()
    }

    fn await_network(&self) -> Outcome {
        self.await_rollout()?;
        NODES.iter().try_for_each(|name| self.cluster.await_ready(name)).map_err(|failure| self.with_logs(failure))
    }

    /// `kubectl apply`, and nothing is waited for.
    pub(crate) fn apply_alone(&self) -> Outcome {
        let path = match self.stack {
            Stack::V4 => manifests().join("netd.yml"),
            Stack::V6 => manifests().join("overlays/ipv6"),
            Stack::Dual => manifests().join("overlays/dual-stack"),
        };
        let way = if path.is_dir() { "-k" } else { "-f" };
        self.cluster.server.kubectl(&["apply", "--validate=strict", way, &path.to_string_lossy()]).map(drop)
    }

    /// Waits until each node runs the netd that was asked for last, and it is ready.
    pub(crate) fn await_rollout(&self) -> Outcome {
        let arguments = ["--namespace=netd", "rollout", "status", "daemonset/netd", "--timeout=180s"];
        self.cluster.server.kubectl(&arguments).map(drop).map_err(|failure| self.with_logs(failure))
    }

    /// Waits until netd is ready on a node.
    pub(crate) fn await_netd(&self, node: &str) -> Outcome {
        eventually(seconds(90), &format!("netd is ready on {node}"), || {
            self.cluster.machine(node).run("curl --silent --fail http://127.0.0.1:10244/readyz").map(drop)
        })
        .map_err(|failure| self.with_logs(failure))
    }

    /// Waits until the Node has a Warning whose message holds this text.
    pub(crate) fn await_warning(&self, node: &str, text: &str) -> Outcome {
        let path = format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={node},type=Warning");
        eventually(seconds(60), &format!("a Warning about {text} on {node}"), || {
            let events = self.cluster.server.get(&path)?;
            let events = events["items"].as_array().context("no list of events")?;
            let messages: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
            ensure!(messages.iter().any(|message| message.contains(text)), "the Warnings are {messages:?}");
            Ok(())
        })
        .map_err(|failure| self.with_logs(failure))
    }

    /// Writes this text as `net-conf.json`.
    pub(crate) fn write_conf(&self, text: &str) -> Outcome {
        self.cluster.server.patch(CONFIGURATION, &json!({ "data": { "net-conf.json": text } })).map(drop)
    }

    pub(crate) fn configure(&self, backend: &Value) -> Outcome {
        self.write_conf(&net_conf(self.stack, backend).to_string())
    }

    /// Every pod reaches every other, untranslated.
    pub(crate) fn talk(&self) -> Outcome {
        let pods: Vec<&RealPod> = self.pods.iter().collect();
        all_talk(&pods).map_err(|failure| self.with_logs(failure))
    }

    /// Runs `body` with a ping every 10 ms and a connection between every pair of pods, and fails where one suffers.
    pub(crate) fn under_load(&mut self, body: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        self.talk()?;
        let pods: Vec<&RealPod> = self.pods.iter().collect();
        let load = Load::between(&pods)?;
        body(self)?;
        load.unharmed().map_err(|failure| self.with_logs(failure))
    }

    /// What netd, as the `ServiceAccount` that it has, was refused. With the manifest's RBAC there is nothing.
    pub(crate) fn nothing_was_refused(&self) -> Outcome {
        self.cluster.server.nothing_was_refused(ACCOUNT)
    }

    /// A failure with what the cluster and every netd say.
    pub(crate) fn with_logs(&self, failure: Failure) -> Failure {
        let arguments = [
            "--namespace=netd",
            "logs",
            "--selector=app.kubernetes.io/name in (netd, netd-cleanup)",
            "--tail=60",
            "--prefix",
        ];
        let logs = self.cluster.server.kubectl(&arguments).unwrap_or_else(|failure| failure.to_string());
        let look = "ip -brief neigh; ip -4 route; ip -6 route; ip -brief link; bridge fdb show dev flannel.1 || true";
        self.cluster.machines.iter().fold(self.cluster.with_logs(failure).with("netd", &logs), |failure, machine| {
            let seen = machine.namespace().shell(look).unwrap_or_else(|failure| failure.to_string());
            failure.with(&format!("the kernel of {}", machine.name()), &seen)
        })
    }
}

/// Every pod reaches every other, untranslated. Peers may just be getting to know each other.
pub(crate) fn all_talk(pods: &[&RealPod]) -> Outcome {
    for from in pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            for (family, address) in to.addresses().iter() {
                let pair = format!("{} to {} over {family}", from.name(), to.name());
                eventually(seconds(30), &pair, || flow::ping(from.namespace(), *address))?;
                flow::all(from.namespace(), from.address(family)?, to.namespace(), *address).context(pair)?;
            }
        }
    }
    Ok(())
}
