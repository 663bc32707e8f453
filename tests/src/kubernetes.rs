//! A real Kubernetes cluster on the fabric: control plane, and on each node containerd, runc, a kubelet and kube-proxy.
//!
//! A node is a machine of the fabric with a mount namespace and a host name of its own. No pod network is in it: that is what
//! the suites put there.

mod cgroups;
mod control;
mod images;
mod machine;
mod pods;

pub use cgroups::watch_over;
pub use control::Ranges;
pub use images::{CLIENT, COREDNS, Images};
pub use machine::Machine;
pub use pods::{RealPod, client, serves};

use crate::apiserver::{self, ApiServer};
use crate::deadline::seconds;
use crate::failure::{Context, Failure, Outcome};
use crate::isolation;
use crate::peers::{self, Program};
use crate::topology::{Fabric, Stack, Topology};

use control::Control;

/// The machine of the control plane.
pub const CONTROL: &str = "api";

/// What a suite prepares that uses one.
pub fn programs() -> Vec<Program> {
    let own = [peers::CONTROLLER_MANAGER, peers::SCHEDULER, peers::KUBELET, peers::KUBE_PROXY, peers::AGNHOST];
    apiserver::PROGRAMS.into_iter().chain(own).collect()
}

/// A cluster. All of it goes when this does: pods, kubelets, runtimes, the control plane, then the fabric.
#[derive(Debug)]
pub struct Kubernetes {
    /// The nodes, in the topology's order.
    pub machines: Vec<Machine>,
    /// Held for its end alone.
    _control: Control,
    /// The API server.
    pub server: ApiServer,
    /// What nodes can start.
    pub images: Images,
    /// What it runs on.
    pub fabric: Fabric,
}

impl Kubernetes {
    /// Builds `topology` and one more machine for the control plane, and starts all but a pod network. Returns when each of the topology's machines
    /// is a Node; it is not ready before it has a pod network.
    ///
    /// # Errors
    /// Where something does not start; with its log.
    pub fn start(topology: &Topology, pods: Stack, ranges: Ranges) -> Outcome<Self> {
        isolation::own_proc()?;
        let fabric = topology.clone().with(CONTROL, 1).build()?;
        let images = Images::make(fabric.disk())?;
        let server = ApiServer::start(&fabric, CONTROL, pods)?;
        let control = Control::start(&server, pods, ranges)?;
        let mut cluster = Self { machines: Vec::new(), _control: control, server, images, fabric };
        let names: Vec<String> = cluster.fabric.nodes.iter().map(|node| node.name().to_owned()).collect();
        let names: Vec<String> = names.into_iter().filter(|name| name != CONTROL).collect();
        let images = [cluster.images.all(), vec![cluster.images.netd()?]].concat();
        for name in &names {
            let machine = Machine::start(cluster.fabric.node(name), &cluster.server, &images)?;
            cluster.machines.push(machine);
        }
        for name in &names {
            cluster.await_node(name, ranges)?;
        }
        Ok(cluster)
    }

    /// The node with this name.
    ///
    /// # Panics
    /// Where there is none: a mistake in the test.
    pub fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name() == name).expect("the cluster has the node")
    }

    /// Waits until the node has registered itself, and has its ranges where they come by themselves.
    ///
    /// # Errors
    /// Where it does not.
    fn await_node(&self, name: &str, ranges: Ranges) -> Outcome {
        self.server
            .await_object("/api/v1/nodes", name, "the node is registered, with a podCIDR", seconds(90), |node| {
                node.is_object() && (ranges == Ranges::ByHand || node["spec"]["podCIDR"].is_string())
            })
            .map(drop)
            .map_err(|failure| self.with_logs(failure))
    }

    /// Waits until the node is ready for pods, as it is with a pod network.
    ///
    /// # Errors
    /// Where it does not get so.
    pub fn await_ready(&self, name: &str) -> Outcome {
        let ready = |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
        self.server
            .await_object("/api/v1/nodes", name, "the node is ready", seconds(90), |node| {
                node["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(ready))
            })
            .map(drop)
            .map_err(|failure| self.with_logs(failure))
    }

    /// Starts a pod that serves and sleeps, on this node, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready; with what the cluster says of it.
    pub fn pod(&self, node: &str, name: &str) -> Outcome<RealPod> {
        self.server.create("/api/v1/namespaces/default/pods", &client(name, node))?;
        self.await_pod(node, name)
    }

    /// Waits until a pod of the namespace `default` is ready, on this node.
    ///
    /// # Errors
    /// Where it does not get ready; with what the cluster says of it.
    pub fn await_pod(&self, node: &str, name: &str) -> Outcome<RealPod> {
        RealPod::await_ready(&self.server, self.machine(node), name).map_err(|failure| self.with_logs(failure))
    }

    /// A failure with what the cluster says of itself, and the kubelets' last words.
    pub fn with_logs(&self, failure: Failure) -> Failure {
        let say = |arguments: &[&str]| self.server.kubectl(arguments).unwrap_or_else(|failure| failure.to_string());
        let mut failure = failure
            .with("nodes and pods", &say(&["get", "nodes,pods", "-A", "-o", "wide"]))
            .with("events", &say(&["get", "events", "-A", "--sort-by=.lastTimestamp"]));
        for machine in &self.machines {
            failure = failure.with(&format!("kubelet on {}", machine.name()), &machine.kubelet_log());
        }
        failure
    }

    /// The power of a node's machine fails and comes back: all that ran and all that the kernel had is gone, its disk is not.
    ///
    /// # Errors
    /// Where it does not come back.
    pub fn reboot(&mut self, name: &str) -> Outcome {
        self.take(name)?;
        self.fabric.reboot(name)?;
        self.machines.push(Machine::start(self.fabric.node(name), &self.server, &[])?);
        Ok(())
    }

    /// Takes a node's machine away, with all that runs on it, as when its power fails. What it had on disk stays, and so does its Node.
    ///
    /// # Errors
    /// Where there is none.
    pub fn take(&mut self, name: &str) -> Outcome {
        let place = self.machines.iter().position(|machine| machine.name() == name).context("no such node")?;
        self.machines.remove(place).end()
    }
}
