//! Two networks on the same machines `n1` and `n2`, each with netds and pods of its own: neither touches what is the other's, whatever
//! becomes of one of them. The suites of the stores bring the store.

use std::path::PathBuf;
use std::process::Output;

use serde_json::json;

use crate::daemon::Daemon;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Failure, Outcome};
use crate::flow;
use crate::kernel;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::plugin::{self, Attachment};
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::topology::Fabric;

const NODES: [&str; 2] = ["n1", "n2"];
/// The bridge of the second network's pods.
const BRIDGE: &str = "cni1";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// With all that netd has by default.
    First,
    /// With another VNI, 2, and other files.
    Second,
}

/// The stores of both.
pub trait Stores {
    /// netd's flags for the store of one, on this node.
    fn flags(&self, which: Which, node: &Node) -> Vec<String>;

    /// What the store holds of the nodes of one.
    ///
    /// # Errors
    /// Where it does not answer.
    fn records(&self, which: Which, fabric: &Fabric) -> Outcome<Vec<String>>;
}

/// The second network joins the first; each of them is stopped while the other heals, and is cleaned up while the other goes on.
///
/// # Errors
/// Where one suffers by the other, or something of one that was cleaned up is left; with the logs of the daemons.
pub fn live_apart<S: Stores>(fabric: &Fabric, stores: &S) -> Outcome {
    for node in NODES.map(|name| fabric.node(name).namespace()) {
        // netd leaves forwarding on, and a host that forwards has more addresses of the kernel's own.
        node.sysctl("net/ipv4/ip_forward", "1")?;
        node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    let mut first = Network::start(fabric, stores, Which::First)?;
    let alone = states(fabric)?;
    let mut second = undisturbed(&first, || Network::start(fabric, stores, Which::Second))?;
    let both = states(fabric)?;
    first.works()?;
    goes_on(&mut first, &second, &both).context("the first is stopped")?;
    goes_on(&mut second, &first, &both).context("the second is stopped")?;

    undisturbed(&first, || second.clean_up()).context("the second is cleaned up")?;
    first.await_states(&alone).context("the second is cleaned up")?;
    first.works()?;
    let second = undisturbed(&first, || Network::start(fabric, stores, Which::Second))?;
    undisturbed(&second, || first.clean_up()).context("the first is cleaned up")?;
    for node in second.nodes() {
        let left = kernel::vxlans(node.namespace())?;
        crate::ensure!(left.iter().all(|(_, data)| data["id"] == 2), "{} has {left:?}", node.name());
        let output = second.run(node, "plan")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        crate::ensure!(output.status.code() == Some(0), "the second on {} has to mend\n{said}", node.name());
    }
    second.works()
}

/// While the daemons of one are away, those of the other put back what is theirs, and nobody touches anything else; nor do the daemons
/// that come back.
fn goes_on<S: Stores>(stopped: &mut Network<S>, other: &Network<S>, both: &[Snapshot]) -> Outcome {
    let records = stopped.records()?;
    stopped.stop()?;
    let n1 = other.fabric.node("n1").namespace();
    let devices = kernel::vxlans(n1)?;
    let vni = if other.which == Which::First { 1 } else { 2 };
    let device = devices.iter().find(|(_, data)| data["id"] == vni).context(format!("no device with the VNI {vni}"))?;
    n1.run(&format!("ip link del {}", device.0))?;
    other.await_states(both)?;
    stopped.works()?;
    other.works()?;
    undisturbed(other, || stopped.resume())?;
    other.await_states(both)?;
    let now = stopped.records()?;
    crate::ensure!(now == records, "its records were {records:?}, and are {now:?}");
    Ok(())
}

/// Does something, through which the daemons and the records of this network must come without any change.
fn undisturbed<S: Stores, T>(network: &Network<S>, body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let before = (network.runs(), network.records()?);
    let done = body().map_err(|failure| network.with_logs(failure))?;
    let after = (network.runs(), network.records()?);
    if before == after {
        return Ok(done);
    }
    Err(network
        .with_logs(Failure::new(format!("the other network's runs and records were {before:?}, and are {after:?}"))))
}

/// The kernel of each node once its addresses have been tried.
fn states(fabric: &Fabric) -> Outcome<Vec<Snapshot>> {
    let state = |name| {
        let namespace = fabric.node(name).namespace();
        eventually(seconds(20), "every address has been tried", || {
            let tentative = namespace.run("ip -6 address show tentative")?;
            crate::ensure!(tentative.trim().is_empty(), "not yet: {tentative}");
            Ok(())
        })?;
        Snapshot::by_name(namespace, &[])
    };
    NODES.into_iter().map(state).collect()
}

/// Daemons and pods of one network.
struct Network<'a, S> {
    which: Which,
    fabric: &'a Fabric,
    stores: &'a S,
    daemons: Vec<Daemon>,
    pods: Vec<Pod>,
}

impl<'a, S: Stores> Network<'a, S> {
    fn start(fabric: &'a Fabric, stores: &'a S, which: Which) -> Outcome<Self> {
        let mut network = Self { which, fabric, stores, daemons: Vec::new(), pods: Vec::new() };
        network.resume()?;
        for node in network.nodes() {
            let pod = match which {
                Which::First => Pod::add(node, &format!("a-{}", node.name()))?,
                Which::Second => Pod::by(&format!("b-{}", node.name()), |pod| network.attachment(node, pod))?,
            };
            network.pods.push(pod);
        }
        network.works()?;
        Ok(network)
    }

    fn nodes(&self) -> [&'a Node; 2] {
        NODES.map(|name| self.fabric.node(name))
    }

    /// Where the second network's files are.
    fn folder(&self, node: &Node) -> PathBuf {
        self.fabric.disk().join("second").join(node.name())
    }

    fn flags(&self, node: &Node) -> Vec<String> {
        let mut flags = self.stores.flags(self.which, node);
        if self.which == Which::Second {
            let folder = self.folder(node);
            for (flag, file) in [("--subnet-file", "subnet.env"), ("--cni-conf-dir", "cni")] {
                flags.extend([flag.to_owned(), folder.join(file).display().to_string()]);
            }
        }
        flags
    }

    /// A pod of the second network, as somebody configures it who has two.
    fn attachment(&self, node: &Node, pod: &Namespace) -> Outcome<Attachment> {
        let conf = json!({
            "name": "second", "cniVersion": "1.0.0", "type": "netd", "bridge": BRIDGE,
            "subnetFile": self.folder(node).join("subnet.env"), "ipam": { "dataDir": node.cni_data_dir() },
        });
        plugin::attachment_by(node, &format!("second-{}", node.name()), pod, conf)
    }

    fn resume(&mut self) -> Outcome {
        for node in self.nodes() {
            std::fs::create_dir_all(self.folder(node).join("cni")).context("make the second network's folders")?;
            let flags = self.flags(node);
            self.daemons.push(node.start_netd(&flags.iter().map(String::as_str).collect::<Vec<_>>())?);
        }
        Ok(())
    }

    fn run(&self, node: &Node, verb: &str) -> Outcome<Output> {
        let flags = self.flags(node);
        node.run_netd(verb, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn stop(&mut self) -> Outcome {
        self.daemons.drain(..).try_for_each(|daemon| daemon.terminate().map(drop))
    }

    /// Ends it as a user does who has no use for it any more.
    fn clean_up(mut self) -> Outcome {
        self.pods.clear();
        self.stop()?;
        for node in self.nodes() {
            if self.which == Which::Second {
                // netd takes away the bridge of its own configuration alone.
                node.namespace().run(&format!("ip link del {BRIDGE}"))?;
            }
            let output = self.run(node, "cleanup")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            crate::ensure!(output.status.success(), "cleanup on {} ended with {}: {said}", node.name(), output.status);
        }
        let left = self.records()?;
        crate::ensure!(left.is_empty(), "its store has still {left:?}");
        Ok(())
    }

    fn records(&self) -> Outcome<Vec<String>> {
        self.stores.records(self.which, self.fabric)
    }

    /// How often its daemons have changed something.
    fn runs(&self) -> usize {
        self.daemons.iter().map(|daemon| daemon.log().matches("reconciled").count()).sum()
    }

    /// Its pods reach each other, untranslated.
    fn works(&self) -> Outcome {
        for (from, to) in [(0, 1), (1, 0)].map(|(from, to)| (&self.pods[from], &self.pods[to])) {
            for (family, address) in to.addresses().iter() {
                let pair = format!("{} to {} over {family}", from.name(), to.name());
                let source = from.address(family)?;
                eventually(seconds(20), &pair, || {
                    from.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop)
                })
                .and_then(|()| flow::all(from.namespace(), source, to.namespace(), *address).context(&pair))
                .map_err(|failure| self.with_logs(failure))?;
            }
        }
        Ok(())
    }

    fn await_states(&self, wanted: &[Snapshot]) -> Outcome {
        for (node, wanted) in self.nodes().into_iter().zip(wanted) {
            eventually(seconds(20), &format!("{} is as it was", node.name()), || {
                wanted.same_as(&Snapshot::by_name(node.namespace(), &[])?)
            })
            .map_err(|failure| self.with_logs(failure))?;
        }
        Ok(())
    }

    fn with_logs(&self, failure: Failure) -> Failure {
        let title = |node: &Node| format!("netd of the {:?} on {}", self.which, node.name());
        self.nodes()
            .into_iter()
            .zip(&self.daemons)
            .fold(failure, |failure, (node, daemon)| failure.with(&title(node), &daemon.log()))
    }
}
