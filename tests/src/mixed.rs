//! A network whose nodes are flanneld's and netd's beside each other, in every order of joining, restarting and leaving. The suites of
//! the stores bring the store.
//!
//! All pods are made by netd's plugin. Those that `bridge` and `host-local` make are in the suite `cluster`.

use std::net::IpAddr;

use dataplane::types::Family;
use serde_json::json;

use crate::daemon::Daemon;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Failure, Outcome};
use crate::flanneld::Flanneld;
use crate::flow;
use crate::kernel;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::plugin::{self, Attachment};
use crate::pod::Pod;
use crate::topology::{Fabric, Stack, Topology};

/// Which daemon a node has.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Flanneld,
    Netd,
}

/// Each order in which three nodes of both kinds can come.
const ORDERS: [[Kind; 3]; 6] = {
    use Kind::{Flanneld, Netd};
    [
        [Flanneld, Flanneld, Netd],
        [Flanneld, Netd, Flanneld],
        [Netd, Flanneld, Flanneld],
        [Netd, Netd, Flanneld],
        [Netd, Flanneld, Netd],
        [Flanneld, Netd, Netd],
    ]
};

/// Where the nodes learn of each other.
pub trait Store {
    /// netd's flags for it, on this node.
    fn of_netd(&self, node: &Node) -> Vec<String>;

    /// flanneld's flags for it.
    fn of_flanneld(&self) -> Vec<String>;

    /// Makes a node known that is about to join, where somebody else does that than its daemon.
    ///
    /// # Errors
    /// Where the store refuses.
    fn admit(&self, node: &Node) -> Outcome;

    /// Takes a node out that has left.
    ///
    /// # Errors
    /// Where the store refuses.
    fn expel(&self, fabric: &Fabric, node: &Node) -> Outcome;
}

/// The machines for it: plain routes need one segment.
pub fn topology(backend: &str, underlay: Stack) -> Topology {
    if backend == "vxlan" { Topology::two_segments(underlay) } else { Topology::one_segment(underlay) }
}

/// The nodes `n1`, `n2` and `n3` join in each order of their kinds, restart in it, go and come back in it, and leave in it. From the first
/// to the last all pods that there are reach each other.
///
/// # Errors
/// Where some do not, or the nodes that stay do not forget one that has left; with the logs of the daemons.
pub fn every_order(fabric: &mut Fabric, store: &impl Store) -> Outcome {
    ORDERS.iter().try_for_each(|order| one_order(fabric, store, *order).context(format!("{order:?}")))
}

fn one_order(fabric: &mut Fabric, store: &impl Store, order: [Kind; 3]) -> Outcome {
    let mut members: Vec<Member> = Vec::new();
    for (name, kind) in ["n1", "n2", "n3"].into_iter().zip(order) {
        joins(fabric, store, &mut members, name, kind)?;
    }
    for place in 0..members.len() {
        let name = members[place].pod.name().to_owned();
        members[place].daemon = None;
        talk(&members).context(format!("the daemon of {name} is away"))?;
        members[place].start(fabric.node(&name), store).context(format!("the daemon of {name} comes back"))?;
        talk(&members).context(format!("the daemon of {name} is back"))?;
    }
    // Each comes back as the last, so that the order is the same in the end.
    for _ in 0..members.len() {
        let (name, kind) = first_leaves(fabric, store, &mut members)?;
        joins(fabric, store, &mut members, &name, kind).context("again")?;
    }
    while !members.is_empty() {
        first_leaves(fabric, store, &mut members)?;
    }
    Ok(())
}

fn joins(fabric: &Fabric, store: &impl Store, members: &mut Vec<Member>, name: &str, kind: Kind) -> Outcome {
    store.admit(fabric.node(name))?;
    members.push(Member::join(fabric.node(name), store, kind).context(format!("{name} joins"))?);
    talk(members).context(format!("{name} has joined"))
}

/// The machine of the first one fails for good; what is plugged in there the next time has nothing in its kernel.
fn first_leaves(fabric: &mut Fabric, store: &impl Store, members: &mut Vec<Member>) -> Outcome<(String, Kind)> {
    let member = members.remove(0);
    let (name, kind, addresses) = (member.pod.name().to_owned(), member.kind, member.addresses());
    drop(member);
    store.expel(fabric, fabric.node(&name))?;
    fabric.reboot(&name)?;
    forgotten(fabric, members, &addresses).context(format!("{name} has left"))?;
    talk(members).context(format!("{name} has left"))?;
    Ok((name, kind))
}

#[derive(Debug)]
enum Running {
    Flanneld(Flanneld),
    Netd(Daemon),
}

/// A node with its daemon and a pod that is called like it. Dropped, the daemon goes first: nothing but a crash is seen of it.
#[derive(Debug)]
struct Member {
    kind: Kind,
    daemon: Option<Running>,
    pod: Pod,
}

impl Member {
    fn join(node: &Node, store: &impl Store, kind: Kind) -> Outcome<Self> {
        let daemon = Some(started(node, store, kind)?);
        let pod = match kind {
            Kind::Flanneld => Pod::by(node.name(), |pod| attachment(node, pod))?,
            Kind::Netd => Pod::add(node, node.name())?,
        };
        Ok(Self { kind, daemon, pod })
    }

    fn start(&mut self, node: &Node, store: &impl Store) -> Outcome {
        self.daemon = Some(started(node, store, self.kind)?);
        Ok(())
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.pod.addresses().iter().map(|(_, address)| *address).collect()
    }

    fn with_logs(&self, failure: Failure) -> Failure {
        match &self.daemon {
            Some(Running::Flanneld(flanneld)) => flanneld.with_logs(failure),
            Some(Running::Netd(daemon)) => failure.with(&format!("netd on {}", self.pod.name()), &daemon.log()),
            None => failure,
        }
    }
}

fn started(node: &Node, store: &impl Store, kind: Kind) -> Outcome<Running> {
    let flags = match kind {
        Kind::Flanneld => store.of_flanneld(),
        Kind::Netd => store.of_netd(node),
    };
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Ok(match kind {
        Kind::Flanneld => Running::Flanneld(Flanneld::start_by(node, &flags)?),
        Kind::Netd => Running::Netd(node.start_netd(&flags)?),
    })
}

/// netd's plugin needs no netd: the subnet file is flanneld's.
fn attachment(node: &Node, pod: &Namespace) -> Outcome<Attachment> {
    let conf = json!({
        "name": "cbr0", "cniVersion": "1.0.0", "type": "netd", "subnetFile": node.subnet_file(),
        "ipam": { "dataDir": node.cni_data_dir() },
    });
    plugin::attachment_by(node, node.name(), pod, conf)
}

/// A node's range, of which this is an address.
pub fn range(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            format!("{first}.{second}.{third}.0/24")
        }
        IpAddr::V6(address) => {
            let [first, second, third, fourth, ..] = address.segments();
            format!("{first:x}:{second:x}:{third:x}:{fourth:x}::/64")
        }
    }
}

/// Every pod reaches every other, untranslated.
fn talk(members: &[Member]) -> Outcome {
    let with_logs = |failure| members.iter().fold(failure, |failure, member| member.with_logs(failure));
    for from in members {
        for to in members.iter().filter(|to| to.pod.name() != from.pod.name()) {
            for address in to.addresses() {
                let pair = format!("the pod of {} to {address} on {}", from.pod.name(), to.pod.name());
                let (here, there) = (from.pod.namespace(), to.pod.namespace());
                let source = from.pod.address(Family::of(address))?;
                eventually(seconds(30), &pair, || here.run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop))
                    .and_then(|()| flow::all(here, source, there, address).context(&pair))
                    .map_err(with_logs)?;
            }
        }
    }
    Ok(())
}

/// The nodes that stay have no way any more to one with these pods.
fn forgotten(fabric: &Fabric, members: &[Member], addresses: &[IpAddr]) -> Outcome {
    for member in members {
        for address in addresses {
            let node = fabric.node(member.pod.name());
            eventually(seconds(30), &format!("{} has no way to {address}", node.name()), || {
                let route = kernel::route(node.namespace(), Family::of(*address), &range(*address))?;
                crate::ensure!(route.is_none(), "it has {route:?}");
                Ok(())
            })
            .map_err(|failure| member.with_logs(failure))?;
        }
    }
    Ok(())
}
