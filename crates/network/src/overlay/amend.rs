//! The desired state after a peer came, went or changed, without going through all the others.
//!
//! Pure. Only where nothing else follows from the change: the tunnels, what peers are told and what a person is told stay
//! as they are. For every other change there is [`super::desired`], and this says so by giving nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::types::{Family, IfName, Prefix};

use super::peer_route::{self, OnLink, PeerRoute, Tunnels};
use super::{Desired, Entries, Input, Outcome, masquerade, transition};
use crate::backend::TunnelDeviceError;
use crate::mirror::Keys;
use crate::model::{Encapsulation, Lease, NodeName};
use crate::net_conf::NetConf;

/// What the way to a peer follows from beside the peer's own lease, and what depends on all peers together.
#[derive(Debug, Clone)]
pub struct Ground {
    tunnels: Tunnels,
    on_link: OnLink,
    /// To how many ranges packets travel in each encapsulation.
    encapsulations: BTreeMap<Encapsulation, usize>,
    /// How many plain routes lead to each node.
    direct: BTreeMap<IpAddr, usize>,
}

/// What became of one peer.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The peer.
    pub node: &'a NodeName,
    /// As it was; `None` where it was not there.
    pub former: Option<&'a Lease>,
    /// As it is; `None` where it is gone.
    pub now: Option<&'a Lease>,
}

impl Ground {
    /// From the same as `outcome`.
    ///
    /// # Errors
    /// Where there is no outcome either.
    pub fn of(input: &Input<'_>, outcome: &Outcome) -> Result<Self, TunnelDeviceError> {
        let tunnels = transition::tunnels(input)?;
        let on_link = OnLink::new(input.routes, input.underlay.index);
        let mut ground = Self { tunnels, on_link, encapsulations: BTreeMap::new(), direct: BTreeMap::new() };
        for ((node, family), way) in &outcome.peer_routes {
            let node = input.cluster.peers.get(node).and_then(|peer| node_of(peer, *family, *way));
            ground.count(*way, node, true);
        }
        Ok(ground)
    }

    /// True where routes of others decide which way packets to peers take.
    pub fn follows_routes(&self, conf: &NetConf) -> bool {
        conf.backend.encapsulations().iter().chain(self.encapsulations.keys()).any(Encapsulation::is_direct)
    }

    /// Changes `outcome` as the changes of peers want it, but for the nodes in the sets of our table, and gives the places that
    /// are concerned; `None` where more follows from them. Then both are of no use any more.
    pub fn amend(
        &mut self,
        conf: &NetConf,
        underlay: &IfName,
        outcome: &mut Outcome,
        changes: &[Change<'_>],
    ) -> Option<Keys> {
        let configured: BTreeSet<Encapsulation> = conf.backend.encapsulations().into_iter().collect();
        let encapsulations: BTreeSet<Encapsulation> = self.encapsulations.keys().copied().collect();
        let mut keys = Keys::default();
        // All that goes first: a range may pass from one node to another.
        for lease in changes.iter().filter_map(|change| change.former) {
            self.remove(lease, &configured, outcome, &mut keys)?;
        }
        for lease in changes.iter().filter_map(|change| change.now) {
            self.add(lease, conf, &configured, underlay, outcome, &mut keys)?;
        }
        // In what encapsulations this node sends is what its peers have been told.
        (self.encapsulations.keys().copied().collect::<BTreeSet<_>>() == encapsulations).then_some(keys)
    }

    /// Puts these nodes into the sets of our table, or takes them out.
    pub fn set_nodes(&self, nodes: &BTreeSet<IpAddr>, desired: &mut Desired) {
        if let Some(table) = &mut desired.table {
            masquerade::set_direct(table, nodes, |node| self.direct.contains_key(&node));
        }
    }

    fn remove(
        &mut self,
        lease: &Lease,
        configured: &BTreeSet<Encapsulation>,
        outcome: &mut Outcome,
        keys: &mut Keys,
    ) -> Option<()> {
        is_plain(lease, configured).then_some(())?;
        for (family, subnet) in lease.subnets.iter() {
            let key = (lease.node.clone(), family);
            if outcome.degraded.contains_key(&key) {
                return None;
            }
            // Without one, it is among the unreachable, which a person has been told of.
            let way = outcome.peer_routes.remove(&key)?;
            let node = node_of(lease, family, way);
            self.count(way, node, false);
            self.places(way, *subnet, node, &mut outcome.desired, keys);
        }
        Some(())
    }

    fn add(
        &mut self,
        lease: &Lease,
        conf: &NetConf,
        configured: &BTreeSet<Encapsulation>,
        underlay: &IfName,
        outcome: &mut Outcome,
        keys: &mut Keys,
    ) -> Option<()> {
        is_plain(lease, configured).then_some(())?;
        for (family, subnet) in lease.subnets.iter() {
            let (way, _) = peer_route::to(conf, &self.tunnels, lease, family, &self.on_link, |_| true).ok()?;
            if !configured.contains(&way.encapsulation) {
                return None;
            }
            let node = node_of(lease, family, way);
            self.count(way, node, true);
            self.places(way, *subnet, node, &mut outcome.desired, keys);
            let Entries { route, tunnel } = Entries::of(underlay, &self.tunnels, *subnet, way)?;
            let desired = &mut outcome.desired;
            desired.routes.insert(*subnet, route);
            if let Some(((neighbour, mac), (end, endpoint))) = tunnel {
                desired.neighbours.insert(neighbour, mac);
                desired.fdb.insert(end, endpoint);
            }
            outcome.peer_routes.insert((lease.node.clone(), family), way);
        }
        Some(())
    }

    /// The places of the entries for one range, and the entries away from them.
    fn places(&self, way: PeerRoute, subnet: Prefix, node: Option<IpAddr>, desired: &mut Desired, keys: &mut Keys) {
        keys.nodes.extend(node);
        keys.routes.insert(subnet);
        desired.routes.remove(&subnet);
        let device = self.tunnels.get(&way.encapsulation).and_then(|devices| devices.get(subnet.family()));
        if let (Some(mac), Some(tunnel)) = (way.mac, device) {
            let (neighbour, end) = ((tunnel.device.clone(), subnet.address()), (tunnel.device.clone(), mac));
            desired.neighbours.remove(&neighbour);
            desired.fdb.remove(&end);
            keys.neighbours.insert(neighbour);
            keys.fdb.insert(end);
        }
    }

    fn count(&mut self, way: PeerRoute, node: Option<IpAddr>, more: bool) {
        step(&mut self.encapsulations, way.encapsulation, more);
        if let Some(node) = node {
            step(&mut self.direct, node, more);
        }
    }
}

fn step<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, more: bool) {
    let count = counts.get(&key).copied().unwrap_or(0);
    match if more { count + 1 } else { count.saturating_sub(1) } {
        0 => drop(counts.remove(&key)),
        count => drop(counts.insert(key, count)),
    }
}

/// The node in the sets of our table, where a plain route leads to its pods.
fn node_of(lease: &Lease, family: Family, way: PeerRoute) -> Option<IpAddr> {
    let public = || lease.public.get(family).copied();
    way.is_direct().then(public)?
}

/// True where the peer speaks of nothing but what is configured here: neither is it changing its backend, nor would a
/// tunnel have to be kept for it.
fn is_plain(lease: &Lease, configured: &BTreeSet<Encapsulation>) -> bool {
    lease.encapsulations.as_ref().is_none_or(|support| {
        let mut tunnels = support.receives.keys().filter(|encapsulation| !encapsulation.is_direct());
        tunnels.all(|tunnel| configured.contains(tunnel)) && support.sends.is_subset(configured)
    })
}
