//! Flows of UDP and SCTP that go on to an endpoint that is gone: they are deleted, so that their next packet is translated anew.
//!
//! The kernel translates all packets of a flow as it did the first. A client that always sends from one port would never see a change of
//! the endpoints. So each changed service port makes the flows to its destinations due. A flow is stale unless its answers come from one
//! of the serving endpoints; traffic policies and hints do not count, as with kube-proxy. Connections of TCP end by themselves.
//!
//! The elements of the new endpoints are in the kernel before flows are deleted. A packet that was under way meanwhile may still leave a
//! flow of the old kind behind, so that each destination is looked at twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::conntrack::{Conntrack, Flow, Selector};
use dataplane::error::KernelError;
use dataplane::netlink::RouteSocket;
use dataplane::types::Family;

use crate::model::{PortKey, Protocol, ServicePort};
use crate::ruleset::{self, NodePorts};

/// When a destination is looked at again: later than any packet that was under way during the first look.
const AGAIN: Duration = Duration::from_millis(100);

/// What flows are to: an address and port, or a node port on any address of the node that has node ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Front {
    family: Family,
    protocol: u8,
    address: Option<IpAddr>,
    port: u16,
}

/// Destinations, each with the endpoints that serve it.
type Fronts = BTreeMap<Front, Arc<BTreeSet<SocketAddr>>>;

/// Which flows are to be looked at.
#[derive(Debug, Default)]
pub struct Flows {
    /// The destinations of the service ports that are known.
    known: BTreeMap<PortKey, Vec<Front>>,
    /// What changed since the last look.
    due: Fronts,
    /// What was looked at once, and when it is looked at again.
    again: VecDeque<(Duration, Fronts)>,
}

/// The kernel's sockets.
#[derive(Debug)]
pub struct Kernel {
    conntrack: Conntrack,
    route: RouteSocket,
}

impl Kernel {
    /// Opens the sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { conntrack: Conntrack::open()?, route: RouteSocket::open()? })
    }

    /// The addresses of a family that have node ports.
    ///
    /// # Errors
    /// Where the addresses cannot be read.
    pub fn node_addresses(&mut self, family: Family, node_ports: &NodePorts) -> Result<BTreeSet<IpAddr>, KernelError> {
        let addresses = self.route.addresses(None, Some(family))?.into_iter().map(|address| address.address);
        Ok(addresses.filter(|address| node_ports.contain(*address)).collect())
    }
}

/// A service port with the endpoints that serve it, on whatever node they are. `None` where there is no such port.
pub type Change = (PortKey, Option<(Arc<ServicePort>, BTreeSet<SocketAddr>)>);

impl Flows {
    /// True for service ports whose flows may be stale.
    pub fn concern(key: &PortKey) -> bool {
        key.name.protocol != Protocol::Tcp
    }

    /// Service ports have changed. One may get a destination that another one of them had.
    pub fn update(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut due = Fronts::new();
        let mut there = Vec::new();
        for (key, port) in changes {
            due.extend(self.known.remove(&key).into_iter().flatten().map(|front| (front, Arc::default())));
            there.extend(port.map(|port| (key, port)));
        }
        for (key, (port, serving)) in there {
            let serving = Arc::new(serving);
            let fronts: Vec<Front> = fronts(&port).collect();
            due.extend(fronts.iter().map(|front| (*front, Arc::clone(&serving))));
            self.known.insert(key, fronts);
        }
        for (_, fronts) in &mut self.again {
            fronts.retain(|front, _| !due.contains_key(front));
        }
        self.due.extend(due);
    }

    /// Destinations of a family belong to no Service any more, and did before this process began.
    pub fn forget(&mut self, family: Family, gone: impl IntoIterator<Item = ruleset::Front>) {
        let gone = gone.into_iter().filter(|front| front.protocol != Protocol::Tcp.number());
        self.due.extend(gone.map(|ruleset::Front { address, protocol, port }| {
            (Front { family, protocol, address, port }, Arc::default())
        }));
    }

    /// When something is to be looked at again.
    pub fn next(&self) -> Option<Duration> {
        self.again.front().map(|(at, _)| *at)
    }

    /// Deletes the stale flows of a family, whose table is as desired. Returns how many there were, where any were looked for.
    ///
    /// # Errors
    /// Where the flows cannot be read or deleted. What was due is still so.
    pub fn clean(
        &mut self,
        kernel: &mut Kernel,
        family: Family,
        node_ports: &NodePorts,
        now: Duration,
    ) -> Result<Option<usize>, KernelError> {
        let first: Fronts = self.due.extract_if(.., |front, _| front.family == family).collect();
        let mut fronts = first.clone();
        for (_, again) in self.again.iter_mut().filter(|(at, _)| *at <= now) {
            fronts.extend(again.extract_if(.., |front, _| front.family == family));
        }
        self.again.retain(|(_, fronts)| !fronts.is_empty());
        if fronts.is_empty() {
            return Ok(None);
        }
        let deleted = delete_stale(kernel, family, &fronts, node_ports);
        if deleted.is_err() {
            self.due.extend(fronts);
        } else if !first.is_empty() {
            self.again.push_back((now + AGAIN, first));
        }
        deleted.map(Some)
    }
}

fn delete_stale(
    kernel: &mut Kernel,
    family: Family,
    fronts: &Fronts,
    node_ports: &NodePorts,
) -> Result<usize, KernelError> {
    let mut nodes = BTreeSet::new();
    if fronts.keys().any(|front| front.address.is_none()) {
        nodes = kernel.node_addresses(family, node_ports)?;
    }
    let protocols: BTreeSet<u8> = fronts.keys().map(|front| front.protocol).collect();
    let mut deleted = 0;
    for protocol in protocols {
        let flows = kernel.conntrack.dump(&Selector::Protocol { family, protocol })?;
        for (selector, flows) in stale(&flows, fronts, &nodes) {
            deleted += flows.len();
            match selector {
                Some(selector) => kernel.conntrack.delete(&selector)?,
                None => {
                    for flow in flows {
                        kernel.conntrack.delete_flow(flow)?;
                    }
                }
            }
        }
    }
    Ok(deleted)
}

/// The stale flows, together with one selection of them all where that is exact: nothing serves the destination, and no flow to it stays.
fn stale<'f>(flows: &'f [Flow], fronts: &Fronts, nodes: &BTreeSet<IpAddr>) -> Vec<(Option<Selector>, Vec<&'f Flow>)> {
    #[derive(Default)]
    struct Found<'f> {
        stale: Vec<&'f Flow>,
        stays: bool,
    }
    let mut found: BTreeMap<Front, Found<'f>> = BTreeMap::new();
    for flow in flows {
        let Some((front, serving)) = front_of(flow, fronts, nodes) else { continue };
        let found = found.entry(front).or_default();
        if is_stale(flow, serving) {
            found.stale.push(flow);
        } else {
            found.stays = true;
        }
    }
    let found = found.into_iter().filter(|(_, found)| !found.stale.is_empty());
    let selected = found.map(|(front, Found { stale, stays })| {
        let is_unserved = fronts.get(&front).is_some_and(|serving| serving.is_empty());
        let address = front.address.filter(|_| is_unserved && !stays && stale.len() > 1);
        let selector = address.map(|address| Selector::Destination {
            to: SocketAddr::new(address, front.port),
            protocol: front.protocol,
        });
        (selector, stale)
    });
    selected.collect()
}

/// The destination that a flow is to. Another machine's address and a port that is a node port here is none.
fn front_of<'s>(
    flow: &Flow,
    fronts: &'s Fronts,
    nodes: &BTreeSet<IpAddr>,
) -> Option<(Front, &'s BTreeSet<SocketAddr>)> {
    let (to, protocol) = (flow.original.destination, flow.original.protocol);
    let by_address = Front { family: Family::of(to.ip()), protocol, address: Some(to.ip()), port: to.port() };
    let by_port = Front { address: None, ..by_address };
    let is_node = nodes.contains(&to.ip());
    let mut possible = [by_address, by_port].into_iter().take(if is_node { 2 } else { 1 });
    possible.find_map(|front| Some((front, fronts.get(&front)?.as_ref())))
}

/// A flow that is not translated began before there were endpoints. It stays where there are none: then nothing would change for it.
fn is_stale(flow: &Flow, serving: &BTreeSet<SocketAddr>) -> bool {
    let is_translated = flow.reply.source != flow.original.destination;
    !serving.contains(&flow.reply.source) && (is_translated || !serving.is_empty())
}

fn fronts(port: &ServicePort) -> impl Iterator<Item = Front> {
    let (family, protocol) = (port.family, port.name.protocol.number());
    let front = move |address, port| Front { family, protocol, address, port };
    let number = port.port;
    let addresses = port.addresses().map(move |address| front(Some(address), number));
    addresses.chain(port.node_port.map(|port| front(None, port)))
}

#[cfg(test)]
mod tests;
