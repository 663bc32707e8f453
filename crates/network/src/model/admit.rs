//! Which peers can be believed: a peer that lies is left out and reported, and stops nobody else.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{Family, Mac, PerFamily, Prefix};

use super::{Cluster, Lease, NodeName};

/// A peer that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The peer.
    pub node: NodeName,
    /// Why, as a sentence about "it", the peer.
    pub reason: String,
}

/// What decides whether the lease of one more peer can be believed: what the peers of a [`Cluster`] have, and the nodes that are left
/// out. The ranges are disjoint, and a hardware address is one node's.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    subnets: BTreeMap<(Family, u128), (Prefix, NodeName)>,
    macs: BTreeMap<Mac, NodeName>,
    left_out: BTreeMap<NodeName, (Arc<Lease>, String)>,
}

/// What became of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// The lease that was believed, if any.
    pub former: Option<Arc<Lease>>,
    /// The lease that is believed now, if any.
    pub now: Option<Arc<Lease>>,
}

impl Admission {
    /// Takes the candidates that can be believed, and leaves the others out. Of two peers that claim the same, the one that claimed it in
    /// `previous` stays; where neither did, the first by name. This node's own lease among the candidates is passed over, and subnets of a
    /// family without a network are dropped from a peer that has others.
    pub fn new(
        own: Lease,
        candidates: impl IntoIterator<Item = impl Into<Arc<Lease>>>,
        previous: Option<&Cluster>,
        networks: &PerFamily<Prefix>,
    ) -> (Cluster, Self) {
        let candidates = candidates.into_iter().map(Into::into).map(|lease| (lease.node.clone(), lease));
        let (mut cluster, mut admission) = (Cluster { own, peers: BTreeMap::new() }, Self::default());
        let former = |node: &NodeName| previous.and_then(|cluster| cluster.peers.get(node));
        admission.admit(&mut cluster, candidates.collect(), former, networks);
        (cluster, admission)
    }

    /// Takes the present leases of some nodes, `None` for a node that has none any more. The cluster is then as [`Admission::new`] would
    /// make it of all leases. Gives the changes of peers, and true where the same nodes are left out as before, for the same reasons.
    pub fn update(
        &mut self,
        cluster: &mut Cluster,
        leases: BTreeMap<NodeName, Option<Arc<Lease>>>,
        networks: &PerFamily<Prefix>,
    ) -> (Vec<PeerChange>, bool) {
        let left_out = std::mem::take(&mut self.left_out);
        // A node that was left out may find its place free.
        let mut candidates: BTreeMap<_, _> =
            left_out.iter().map(|(node, (lease, _))| (node.clone(), lease.clone())).collect();
        let mut former = BTreeMap::new();
        for (node, lease) in leases {
            if let Some(lease) = cluster.peers.remove(&node) {
                self.remove(&lease);
                former.insert(node.clone(), lease);
            }
            match lease {
                Some(lease) => drop(candidates.insert(node, lease)),
                None => drop(candidates.remove(&node)),
            }
        }
        let nodes: BTreeSet<NodeName> = former.keys().chain(candidates.keys()).cloned().collect();
        self.admit(cluster, candidates, |node| former.get(node), networks);
        let change =
            |node: &NodeName| PeerChange { former: former.get(node).cloned(), now: cluster.peers.get(node).cloned() };
        let changes = nodes.iter().map(change).filter(|change| change.former != change.now);
        (changes.collect(), self.left_out == left_out)
    }

    /// The nodes that are left out.
    pub fn rejected(&self) -> Vec<Rejected> {
        let rejected = self.left_out.iter();
        rejected.map(|(node, (_, reason))| Rejected { node: node.clone(), reason: reason.clone() }).collect()
    }

    /// Adds the candidates that can be believed to the cluster. `former` gives the lease of a node that was believed before.
    fn admit<'f>(
        &mut self,
        cluster: &mut Cluster,
        mut candidates: BTreeMap<NodeName, Arc<Lease>>,
        former: impl Fn(&NodeName) -> Option<&'f Arc<Lease>>,
        networks: &PerFamily<Prefix>,
    ) {
        let own = &cluster.own;
        candidates.remove(&own.node);
        for lease in candidates.values_mut() {
            only_families_of(own, lease);
        }
        let keeps = |lease: &&Arc<Lease>| {
            former(&lease.node).is_some_and(|former| former.subnets == lease.subnets && former.data == lease.data)
        };
        let (incumbents, newcomers): (Vec<&Arc<Lease>>, Vec<&Arc<Lease>>) = candidates.values().partition(keeps);
        for lease in incumbents.into_iter().chain(newcomers) {
            match judge(own, lease, networks).and_then(|()| self.refuse(lease)) {
                Ok(()) => self.add(lease),
                Err(reason) => drop(self.left_out.insert(lease.node.clone(), (lease.clone(), reason))),
            }
        }
        for node in self.left_out.keys() {
            candidates.remove(node);
        }
        cluster.peers.extend(candidates);
    }

    /// Refuses a lease that claims what another peer has.
    fn refuse(&self, lease: &Lease) -> Result<(), String> {
        for (family, &subnet) in lease.subnets.iter() {
            // Ranges are disjoint, so the last one that starts before our end is the only one that can reach into us.
            let before = self.subnets.range((family, 0)..=(family, subnet.last())).next_back();
            if let Some((_, (taken, other))) = before.filter(|(_, (taken, _))| taken.overlaps(subnet)) {
                return Err(format!(
                    "its subnet {subnet} overlaps {taken} of node {other}: remove the lease of the one that is wrong"
                ));
            }
        }
        for (_, mac) in lease.macs() {
            if let Some(other) = self.macs.get(&mac) {
                return Err(mac_fault(mac, Some(other)));
            }
        }
        Ok(())
    }

    /// What the lease claims is taken from here on.
    fn add(&mut self, lease: &Lease) {
        for (family, &subnet) in lease.subnets.iter() {
            self.subnets.insert((family, subnet.first()), (subnet, lease.node.clone()));
        }
        self.macs.extend(lease.macs().map(|(_, mac)| (mac, lease.node.clone())));
    }

    /// What the lease claimed is free again.
    fn remove(&mut self, lease: &Lease) {
        for (family, subnet) in lease.subnets.iter() {
            self.subnets.remove(&(family, subnet.first()));
        }
        for (_, mac) in lease.macs() {
            self.macs.remove(&mac);
        }
    }
}

impl Lease {
    /// Takes from it what concerns other families.
    pub fn keep_families(&mut self, has: impl Fn(Family) -> bool) {
        for family in Family::BOTH.into_iter().filter(|family| !has(*family)) {
            *self.subnets.slot(family) = None;
            *self.data.slot(family) = None;
        }
    }
}

/// Drops what of a lease is of families that this node's pods do not have.
fn only_families_of(own: &Lease, lease: &mut Arc<Lease>) {
    let has = |family| own.subnets.get(family).is_some();
    let has_more = lease.subnets.families().chain(lease.data.families()).any(|family| !has(family));
    if has_more {
        Arc::make_mut(lease).keep_families(has);
    }
}

/// Why a peer's lease cannot be true next to this node's own.
fn judge(own: &Lease, peer: &Lease, networks: &PerFamily<Prefix>) -> Result<(), String> {
    if peer.subnets.is_empty() {
        let families = names(own.subnets.families());
        return Err(format!(
            "it has no subnet of a family that this node's pods have ({families}): compare its net-conf.json with this node's"
        ));
    }
    for (family, &subnet) in peer.subnets.iter() {
        if subnet.family() != family {
            return Err(format!("its {family} subnet {subnet} is not {family}"));
        }
        if let Some(network) = networks.get(family).filter(|network| !network.covers(subnet)) {
            return Err(format!(
                "its subnet {subnet} is not inside the Network {network}: one of the two is out of date"
            ));
        }
        if let Some(own) = own.subnets.get(family).filter(|own| own.overlaps(subnet)) {
            return Err(format!(
                "its subnet {subnet} overlaps this node's own {own}: remove the lease of the one that is wrong"
            ));
        }
    }
    for (family, &address) in peer.public.iter() {
        if own.public.get(family) == Some(&address) {
            return Err(format!(
                "its public address {address} is this node's own: give one of the two another --public-ip"
            ));
        }
        if let Some(fault) = fault_of(address, networks) {
            return Err(format!("its public address {address} cannot be a node's: {fault}"));
        }
    }
    if !peer.public.families().any(|family| own.public.get(family).is_some()) {
        let families = names(own.public.families());
        return Err(format!("it has no public address of a family that this node can send from ({families})"));
    }
    for (family, mac) in peer.macs() {
        if mac.is_unusable() {
            return Err(mac_fault(mac, None));
        }
        if own.macs().any(|own| own == (family, mac)) {
            return Err(mac_fault(mac, Some(&own.node)));
        }
    }
    Ok(())
}

/// Why no peer can have a hardware address: no device can, or another node has it. Packets to two nodes with one address cannot be told
/// apart.
fn mac_fault(mac: Mac, other: Option<&NodeName>) -> String {
    match other {
        None => format!("its VTEP's MAC address {mac} cannot be a device's"),
        Some(other) => format!(
            "its VTEP's MAC address {mac} is that of node {other}: delete the VXLAN device of one of the two and restart netd there"
        ),
    }
}

fn names(families: impl Iterator<Item = Family>) -> String {
    families.map(|family| family.to_string()).collect::<Vec<_>>().join(" and ")
}

/// Why no packet for a node can be sent to `address`.
fn fault_of(address: IpAddr, networks: &PerFamily<Prefix>) -> Option<String> {
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Some("it must be a unicast address that other nodes can reach".to_owned());
    }
    // Packets to it would be carried to it inside themselves, for ever.
    let network = networks.get(Family::of(address)).filter(|network| network.contains(address))?;
    Some(format!("it lies inside the pods' Network {network}"))
}
