//! Which peers can be believed: a peer that lies is left out and told, and stops nobody else.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{Family, Mac, PerFamily, Prefix};

use super::{Cluster, Lease, NodeName};

/// A peer that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The peer.
    pub node: NodeName,
    /// Why.
    pub reason: RejectReason,
}

/// Why a peer is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// It has no subnet of a family that this node's pods have.
    #[error(
        "it has no subnet of a family that this node's pods have ({families}): compare its net-conf.json with this node's"
    )]
    NoSubnet {
        /// The families of this node's pods.
        families: String,
    },
    /// Its subnet does not have the family that it is listed under.
    #[error("its {family} subnet {subnet} is not {family}")]
    WrongFamily {
        /// The family that the subnet is listed under.
        family: Family,
        /// The subnet.
        subnet: Prefix,
    },
    /// Its subnet is not part of the pods' network.
    #[error("its subnet {subnet} is not inside the Network {network}: one of the two is out of date")]
    OutsideNetwork {
        /// The peer's subnet.
        subnet: Prefix,
        /// The network of that family.
        network: Prefix,
    },
    /// Its subnet overlaps this node's.
    #[error("its subnet {subnet} overlaps this node's own {own}: remove the lease of the one that is wrong")]
    OverlapsOwn {
        /// The peer's subnet.
        subnet: Prefix,
        /// This node's subnet.
        own: Prefix,
    },
    /// Another peer has the subnet already.
    #[error("its subnet {subnet} overlaps {taken} of node {other}: remove the lease of the one that is wrong")]
    OverlapsPeer {
        /// The peer's subnet.
        subnet: Prefix,
        /// The other's subnet.
        taken: Prefix,
        /// The other peer.
        other: NodeName,
    },
    /// It says that it has this node's public address.
    #[error("its public address {address} is this node's own: give one of the two another --public-ip")]
    OwnAddress {
        /// The address of both.
        address: IpAddr,
    },
    /// No packet can be sent to its public address.
    #[error("its public address {address} cannot be a node's: {fault}")]
    UnusableAddress {
        /// The address.
        address: IpAddr,
        /// What is wrong with it.
        fault: String,
    },
    /// It has no public address of a family that this node has one of.
    #[error("it has no public address of a family that this node can send from ({families})")]
    Unreachable {
        /// The families of this node's public addresses.
        families: String,
    },
    /// No device can have its tunnel's hardware address.
    #[error("its VTEP's MAC address {mac} cannot be a device's")]
    UnusableMac {
        /// The address.
        mac: Mac,
    },
    /// Somebody else has its tunnel's hardware address: packets could not be told apart.
    #[error(
        "its VTEP's MAC address {mac} is that of node {other}: delete the VXLAN device of one of the two and restart netd there"
    )]
    MacTaken {
        /// The address of both.
        mac: Mac,
        /// The other node.
        other: NodeName,
    },
}

/// Who has what: the ranges are disjoint, and a hardware address is one node's.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    subnets: BTreeMap<(Family, u128), (Prefix, NodeName)>,
    macs: BTreeMap<Mac, NodeName>,
}

impl Cluster {
    /// Takes the candidates that can be believed, and tells why the others are left out. Of two peers that claim the same, the one that
    /// claimed it in `previous` stays; where neither did, the first by name. This node's own lease among the candidates is passed over,
    /// and subnets of a family without a network are dropped from a peer that has others.
    pub fn admit(
        own: Lease,
        candidates: impl IntoIterator<Item = impl Into<Arc<Lease>>>,
        previous: Option<&Cluster>,
        networks: &PerFamily<Prefix>,
    ) -> (Cluster, Vec<Rejected>) {
        let candidates: BTreeMap<NodeName, Arc<Lease>> = candidates
            .into_iter()
            .map(Into::into)
            .filter(|lease| lease.node != own.node)
            .map(|lease| (lease.node.clone(), only_families_of(&own, lease)))
            .collect();
        let held = |lease: &Lease| previous.and_then(|cluster| cluster.peers.get(&lease.node));
        let keeps = |lease: &&Arc<Lease>| {
            held(lease).is_some_and(|held| held.subnets == lease.subnets && held.data == lease.data)
        };
        let (incumbents, newcomers): (Vec<&Arc<Lease>>, Vec<&Arc<Lease>>) = candidates.values().partition(keeps);

        let mut claims = Claims::default();
        let mut rejected = Vec::new();
        for lease in incumbents.into_iter().chain(newcomers) {
            match judge(&own, lease, networks).and_then(|()| claims.refuse(lease)) {
                Ok(()) => claims.add(lease),
                Err(reason) => rejected.push(Rejected { node: lease.node.clone(), reason }),
            }
        }
        rejected.sort_by(|a, b| a.node.cmp(&b.node));
        let mut peers = candidates;
        for Rejected { node, .. } in &rejected {
            peers.remove(node);
        }
        (Cluster { own, peers }, rejected)
    }

    /// The leases of some nodes as [`Cluster::admit`] would take them, were they told beside all the peers that are here.
    /// `None` where one of them would be left out: then it has to be asked. `claims` are those of the peers, and become
    /// those of the peers with these leases; after `None` they are of no use.
    pub fn amend(
        &self,
        claims: &mut Claims,
        told: BTreeMap<NodeName, Option<Arc<Lease>>>,
        networks: &PerFamily<Prefix>,
    ) -> Option<BTreeMap<NodeName, Option<Arc<Lease>>>> {
        for node in told.keys() {
            self.peers.get(node).into_iter().for_each(|lease| claims.remove(lease));
        }
        let take = |(node, lease): (NodeName, Option<Arc<Lease>>)| {
            let lease = lease.map(|lease| only_families_of(&self.own, lease));
            if let Some(lease) = &lease {
                judge(&self.own, lease, networks).and_then(|()| claims.refuse(lease)).ok()?;
                claims.add(lease);
            }
            Some((node, lease))
        };
        told.into_iter().filter(|(node, _)| *node != self.own.node).map(take).collect()
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

    /// True where only one of the two can be believed.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let overlap = |(family, subnet): (Family, &Prefix)| {
            other.subnets.get(family).is_some_and(|other| other.overlaps(*subnet))
        };
        let same_mac = |(_, mac)| other.macs().any(|(_, other)| other == mac);
        self.subnets.iter().any(overlap) || self.macs().any(same_mac)
    }
}

/// What of a lease concerns this node's pods.
fn only_families_of(own: &Lease, mut lease: Arc<Lease>) -> Arc<Lease> {
    let has = |family| own.subnets.get(family).is_some();
    let has_more = lease.subnets.families().chain(lease.data.families()).any(|family| !has(family));
    if has_more {
        Arc::make_mut(&mut lease).keep_families(has);
    }
    lease
}

/// Whether a peer's lease can be true next to this node's own.
fn judge(own: &Lease, peer: &Lease, networks: &PerFamily<Prefix>) -> Result<(), RejectReason> {
    if peer.subnets.is_empty() {
        return Err(RejectReason::NoSubnet { families: names(own.subnets.families()) });
    }
    for (family, &subnet) in peer.subnets.iter() {
        if subnet.family() != family {
            return Err(RejectReason::WrongFamily { family, subnet });
        }
        if let Some(&network) = networks.get(family).filter(|network| !network.covers(subnet)) {
            return Err(RejectReason::OutsideNetwork { subnet, network });
        }
        if let Some(&own) = own.subnets.get(family).filter(|own| own.overlaps(subnet)) {
            return Err(RejectReason::OverlapsOwn { subnet, own });
        }
    }
    for (family, &address) in peer.public.iter() {
        if own.public.get(family) == Some(&address) {
            return Err(RejectReason::OwnAddress { address });
        }
        if let Some(fault) = fault_of(address, networks) {
            return Err(RejectReason::UnusableAddress { address, fault });
        }
    }
    if !peer.public.families().any(|family| own.public.get(family).is_some()) {
        return Err(RejectReason::Unreachable { families: names(own.public.families()) });
    }
    for (family, mac) in peer.macs() {
        if mac.is_unusable() {
            return Err(RejectReason::UnusableMac { mac });
        }
        if own.macs().any(|own| own == (family, mac)) {
            return Err(RejectReason::MacTaken { mac, other: own.node.clone() });
        }
    }
    Ok(())
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

impl Claims {
    /// What the peers claim.
    pub fn of(cluster: &Cluster) -> Self {
        let subnets = |lease: &Arc<Lease>| {
            lease.subnets.map(|family, subnet| ((family, subnet.first()), (*subnet, lease.node.clone())))
        };
        let subnets = cluster.peers.values().map(subnets).flat_map(|subnets| [subnets.v4, subnets.v6]).flatten();
        let macs = cluster.peers.values().flat_map(|lease| lease.macs().map(|(_, mac)| (mac, lease.node.clone())));
        Self { subnets: subnets.collect(), macs: macs.collect() }
    }

    /// Why somebody else's claims leave no place for this lease.
    fn refuse(&self, lease: &Lease) -> Result<(), RejectReason> {
        for (family, &subnet) in lease.subnets.iter() {
            // Claims are disjoint, so the last one that starts before our end is the only one that can reach into us.
            let before = self.subnets.range((family, 0)..=(family, subnet.last())).next_back();
            if let Some((_, &(taken, ref other))) = before.filter(|(_, (taken, _))| taken.overlaps(subnet)) {
                return Err(RejectReason::OverlapsPeer { subnet, taken, other: other.clone() });
            }
        }
        for (_, mac) in lease.macs() {
            if let Some(other) = self.macs.get(&mac) {
                return Err(RejectReason::MacTaken { mac, other: other.clone() });
            }
        }
        Ok(())
    }

    fn add(&mut self, lease: &Lease) {
        for (family, &subnet) in lease.subnets.iter() {
            self.subnets.insert((family, subnet.first()), (subnet, lease.node.clone()));
        }
        self.macs.extend(lease.macs().map(|(_, mac)| (mac, lease.node.clone())));
    }

    fn remove(&mut self, lease: &Lease) {
        for (family, subnet) in lease.subnets.iter() {
            self.subnets.remove(&(family, subnet.first()));
        }
        for (_, mac) in lease.macs() {
            self.macs.remove(&mac);
        }
    }
}
