//! A fabric with netd running on its machines.

use std::process::Command;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Failure, Outcome};
use crate::flow;
use crate::node::Node;
use crate::pod::Pod;
use crate::topology::{Fabric, Stack, Topology};

/// The pods' IPv4 network.
pub const NETWORK: &str = "10.244.0.0/16";
/// The pods' IPv6 network.
pub const IPV6_NETWORK: &str = "fd00:10:244::/56";

/// `net-conf.json` for pods of these families; `backend` is the object below `Backend`.
pub fn net_conf(pods: Stack, backend: &Value) -> Value {
    match pods {
        Stack::V4 => json!({ "Network": NETWORK, "Backend": backend }),
        Stack::V6 => {
            json!({ "EnableIPv4": false, "EnableIPv6": true, "IPv6Network": IPV6_NETWORK, "Backend": backend })
        }
        Stack::Dual => {
            json!({ "Network": NETWORK, "EnableIPv6": true, "IPv6Network": IPV6_NETWORK, "Backend": backend })
        }
    }
}

/// Machines, and the daemons on them. All goes when this does.
#[derive(Debug)]
pub struct Cluster {
    daemons: Vec<(String, Daemon)>,
    arguments: Vec<String>,
    /// What it runs on.
    pub fabric: Fabric,
}

impl Cluster {
    /// Builds `topology` and starts netd on each machine that is called `n` and a number; others are hosts outside.
    ///
    /// # Errors
    /// Where a netd does not get ready; with its log.
    pub fn start(topology: &Topology, net_conf: &Value, arguments: &[&str]) -> Outcome<Self> {
        let fabric = topology.build()?;
        fabric.write_net_conf(net_conf)?;
        Self::on(fabric, arguments)
    }

    /// Starts netd on the machines of a built fabric whose store has a network configuration. `%n` in an argument is the
    /// node's name.
    ///
    /// # Errors
    /// Where a netd does not get ready; with its log.
    pub fn on(fabric: Fabric, arguments: &[&str]) -> Outcome<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut cluster = Self { daemons: Vec::new(), arguments, fabric };
        // Started together, as the nodes of a cluster are.
        let names: Vec<String> = cluster.fabric.nodes.iter().map(|node| node.name().to_owned()).collect();
        for name in names.iter().filter(|name| is_node(name)) {
            cluster.launch(name)?;
        }
        cluster.daemons.iter().try_for_each(|(_, daemon)| daemon.await_ready())?;
        Ok(cluster)
    }

    /// Starts netd on a node, with the cluster's arguments, and waits for nothing.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn launch(&mut self, name: &str) -> Outcome {
        self.launch_by(name, |usual| {
            let mut same = Command::new(usual.get_program());
            same.args(usual.get_args());
            same
        })
    }

    fn launch_by(&mut self, name: &str, made: impl FnOnce(&Command) -> Command) -> Outcome {
        let arguments: Vec<String> = self.arguments.iter().map(|argument| argument.replace("%n", name)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let daemon = self.fabric.node(name).launch_netd_by(&arguments, made)?;
        self.daemons.push((name.to_owned(), daemon));
        Ok(())
    }

    /// The machine with this name.
    pub fn node(&self, name: &str) -> &Node {
        self.fabric.node(name)
    }

    /// The daemon on a node.
    ///
    /// # Panics
    /// Where none runs there: a mistake in the test.
    pub fn daemon(&self, name: &str) -> &Daemon {
        let found = self.daemons.iter().find(|(node, _)| node == name);
        &found.expect("netd runs on the node").1
    }

    /// Takes a node's daemon out, to end it.
    ///
    /// # Panics
    /// Where none runs there: a mistake in the test.
    pub fn take(&mut self, name: &str) -> Daemon {
        let place = self.daemons.iter().position(|(node, _)| node == name).expect("netd runs on the node");
        self.daemons.remove(place).1
    }

    /// Starts netd on a node, with the cluster's arguments, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn resume(&mut self, name: &str) -> Outcome {
        self.launch(name)?;
        self.daemon(name).await_ready()
    }

    /// The same with another command than the usual one, which `made` makes of that.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn resume_by(&mut self, name: &str, made: impl FnOnce(&Command) -> Command) -> Outcome {
        self.launch_by(name, made)?;
        self.daemon(name).await_ready()
    }

    /// Adds a pod on a node.
    ///
    /// # Errors
    /// Where the plugin fails.
    pub fn pod(&self, node: &str, name: &str) -> Outcome<Pod> {
        Pod::add(self.node(node), name)
    }

    /// Waits until `from` reaches `to` in each family that both have. Peers are learnt after readiness.
    ///
    /// # Errors
    /// Where it does not; with the logs of all daemons.
    pub fn settle(&self, from: &Pod, to: &Pod) -> Outcome {
        for (family, address) in to.addresses().iter() {
            from.address(family)?;
            let what = format!("{} reaches {} over {family}", from.name(), to.name());
            eventually(seconds(10), &what, || {
                from.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop)
            })
            .map_err(|failure| self.with_logs(failure))?;
        }
        Ok(())
    }

    /// Waits until each daemon knows every other, and has the routes that it means to keep. A daemon is ready before: it sends by an
    /// encapsulation only after it has published that, and takes another one meanwhile.
    ///
    /// # Errors
    /// Where one does not get there; with the logs of all daemons.
    pub fn await_settled(&self) -> Outcome {
        for (name, _) in &self.daemons {
            let others = self.daemons.iter().map(|(other, _)| other).filter(|other| *other != name);
            eventually(seconds(30), &format!("{name} has settled"), || {
                let status = self.node(name).status()?;
                let is_there = |other: &&String| {
                    let routes = status["peers"][*other]["ways"].as_array();
                    routes.is_some_and(|routes| routes.iter().all(|route| route["programmed"] == true))
                };
                let missing: Vec<&String> = others.clone().filter(|other| !is_there(other)).collect();
                crate::ensure!(missing.is_empty() && status["changing"] == false, "without {missing:?}: {status:#}");
                Ok(())
            })
            .map_err(|failure| self.with_logs(failure))?;
        }
        Ok(())
    }

    /// Ping, TCP and UDP from one pod to another in each family, untranslated.
    ///
    /// # Errors
    /// Where one does not arrive as it was sent; with the logs of all daemons.
    pub fn talk(&self, from: &Pod, to: &Pod) -> Outcome {
        for (family, address) in to.addresses().iter() {
            let source = from.address(family)?;
            flow::all(from.namespace(), source, to.namespace(), *address)
                .context(format!("{} to {} over {family}", from.name(), to.name()))
                .map_err(|failure| self.with_logs(failure))?;
        }
        Ok(())
    }

    /// A failure with the logs of all daemons.
    pub fn with_logs(&self, failure: Failure) -> Failure {
        self.daemons
            .iter()
            .fold(failure, |failure, (name, daemon)| failure.with(&format!("netd on {name}"), &daemon.log()))
    }
}

fn is_node(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|number| number.parse::<u8>().is_ok())
}
