//! Which peers can be believed: a peer that lies is left out and reported, and stops nobody else.
//!
//! Pure. A lease claims subnets, addresses and hardware addresses. Each is one node's: who claimed it first keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::types::{self, Family, Mac, PerFamily, Prefix};

use super::{Cluster, Lease, NodeName};

/// A peer that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The peer.
    pub node: NodeName,
    /// Why, as a sentence about "it", the peer.
    pub reason: String,
}

/// What every lease is judged by, beside the other leases.
#[derive(Debug, Clone, Default)]
pub struct AdmissionRules {
    /// The pods' networks.
    pub networks: PerFamily<Prefix>,
    /// The length of each node's subnet; none where the store gives nodes subnets of any length.
    pub subnet_len: PerFamily<u8>,
    /// The addresses of this host, with the lengths of their prefixes.
    pub host: Vec<(IpAddr, u8)>,
}

/// What one node alone can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Subnet(Prefix),
    Public(IpAddr),
    Mac(Mac),
}

/// What decides whether the lease of one more peer can be believed: what this node and the peers of a [`Cluster`] have, and the nodes
/// that are left out.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    rules: AdmissionRules,
    claims: BTreeMap<Claim, NodeName>,
    left_out: BTreeMap<NodeName, LeftOut>,
    /// The nodes that are left out because of what a node has.
    waiting: BTreeMap<NodeName, BTreeSet<NodeName>>,
}

#[derive(Debug, Clone)]
struct LeftOut {
    lease: Arc<Lease>,
    reason: String,
    /// The node that has what the lease claims.
    holder: Option<NodeName>,
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
    /// Takes the candidates that can be believed, and leaves the others out. Of two peers that claim the same, the one stays of which
    /// `was_first` says that it has been believed so far; else the first by name. This node's own lease among the candidates is passed
    /// over, and subnets of a family without a network are dropped from a peer that has others.
    pub fn new(
        own: Lease,
        candidates: impl IntoIterator<Item = impl Into<Arc<Lease>>>,
        was_first: impl Fn(&Lease) -> bool,
        rules: AdmissionRules,
    ) -> (Cluster, Self) {
        let candidates = candidates.into_iter().map(Into::into).map(|lease| (lease.node.clone(), lease));
        let host = rules.host.iter().map(|(address, _)| Claim::Public(*address));
        let claims = host.chain(claims_of(&own)).map(|claim| (claim, own.node.clone())).collect();
        let mut admission = Self { rules, claims, ..Self::default() };
        let mut cluster = Cluster { own, peers: BTreeMap::new() };
        admission.admit(&mut cluster, candidates.collect(), was_first);
        (cluster, admission)
    }

    /// Takes the present leases of some nodes, `None` for a node that has none any more. The cluster is then as [`Admission::new`] would
    /// make it of all leases. Gives the changes of peers, and true where the same nodes are left out as before, for the same reasons.
    pub fn update(
        &mut self,
        cluster: &mut Cluster,
        leases: BTreeMap<NodeName, Option<Arc<Lease>>>,
    ) -> (Vec<PeerChange>, bool) {
        let (mut candidates, mut former, mut left_out) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (node, lease) in leases {
            left_out.extend(self.forget(&node));
            if let Some(lease) = cluster.peers.remove(&node) {
                for claim in claims_of(&lease) {
                    self.claims.remove(&claim);
                }
                // Those may find their place free.
                for waiting in self.waiting.remove(&node).into_iter().flatten() {
                    let freed = self.forget(&waiting);
                    candidates.extend(freed.iter().map(|(node, left_out)| (node.clone(), left_out.lease.clone())));
                    left_out.extend(freed);
                }
                former.insert(node.clone(), lease);
            }
            match lease {
                Some(lease) => drop(candidates.insert(node, lease)),
                None => drop(candidates.remove(&node)),
            }
        }
        let nodes: BTreeSet<NodeName> =
            former.keys().chain(candidates.keys()).chain(left_out.keys()).cloned().collect();
        self.admit(cluster, candidates, |lease| has_all_of(former.get(&lease.node), lease));
        let change =
            |node: &NodeName| PeerChange { former: former.get(node).cloned(), now: cluster.peers.get(node).cloned() };
        let changes = nodes.iter().map(change).filter(|change| change.former != change.now).collect();
        let reason = |left_out: Option<&LeftOut>| left_out.map(|left_out| left_out.reason.clone());
        (changes, nodes.iter().all(|node| reason(self.left_out.get(node)) == reason(left_out.get(node))))
    }

    /// The nodes that are left out.
    pub fn rejected(&self) -> Vec<Rejected> {
        let rejected = self.left_out.iter();
        rejected.map(|(node, left_out)| Rejected { node: node.clone(), reason: left_out.reason.clone() }).collect()
    }

    /// True where two nodes claim the same.
    pub fn is_disputed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a node out of those that are left out.
    fn forget(&mut self, node: &NodeName) -> Option<(NodeName, LeftOut)> {
        let entry = self.left_out.remove_entry(node)?;
        if let Some(holder) = &entry.1.holder
            && let Some(waiting) = self.waiting.get_mut(holder)
        {
            waiting.remove(node);
            if waiting.is_empty() {
                self.waiting.remove(holder);
            }
        }
        Some(entry)
    }

    /// Adds the candidates that can be believed to the cluster.
    fn admit(
        &mut self,
        cluster: &mut Cluster,
        mut candidates: BTreeMap<NodeName, Arc<Lease>>,
        was_first: impl Fn(&Lease) -> bool,
    ) {
        let own = &cluster.own;
        candidates.remove(&own.node);
        for lease in candidates.values_mut() {
            only_families_of(own, lease);
        }
        let (first, newcomers): (Vec<_>, Vec<_>) = candidates.into_values().partition(|lease| was_first(lease));
        for lease in first.into_iter().chain(newcomers) {
            let node = lease.node.clone();
            let refused = match judge(own, &lease, &self.rules) {
                Ok(()) => self.dispute(own, &lease),
                Err(reason) => Some((reason, None)),
            };
            if let Some((reason, holder)) = refused {
                if let Some(holder) = holder.clone().filter(|holder| *holder != own.node) {
                    self.waiting.entry(holder).or_default().insert(node.clone());
                }
                self.left_out.insert(node, LeftOut { lease, reason, holder });
            } else {
                self.claims.extend(claims_of(&lease).map(|claim| (claim, node.clone())));
                cluster.peers.insert(node, lease);
            }
        }
    }

    /// Why the lease cannot have what it claims, and the node that has it.
    fn dispute(&self, own: &Lease, lease: &Lease) -> Option<(String, Option<NodeName>)> {
        claims_of(lease).find_map(|claim| {
            let (taken, holder) = self.holder(claim)?;
            let reason = match (claim, taken) {
                (Claim::Subnet(subnet), Claim::Subnet(taken)) => {
                    let taken = if *holder == own.node {
                        format!("this node's own {taken}")
                    } else {
                        format!("{taken} of node {holder}")
                    };
                    format!("its subnet {subnet} overlaps {taken}: remove the lease of the one that is wrong")
                }
                (Claim::Mac(mac), _) => mac_fault(mac, Some(holder)),
                (Claim::Public(address), _) if *holder == own.node => {
                    format!(
                        "its public address {address} is this node's own: give one of the two another --public-ip"
                    )
                }
                (Claim::Public(address), _) => format!(
                    "its public address {address} is that of node {holder}: remove the lease of the one that is gone, or give one of the two another --public-ip"
                ),
                (Claim::Subnet(_), _) => return None,
            };
            Some((reason, Some(holder.clone())))
        })
    }

    /// The claim that this one meets, and whose that is.
    fn holder(&self, claim: Claim) -> Option<(Claim, &NodeName)> {
        let Claim::Subnet(subnet) = claim else { return self.claims.get(&claim).map(|holder| (claim, holder)) };
        // Ranges are disjoint, so the last one that starts before our end is the only one that can reach into us.
        let end = Claim::Subnet(Prefix::host(types::address(subnet.family(), subnet.last())));
        let (taken, holder) = self.claims.range(..=end).next_back()?;
        matches!(taken, Claim::Subnet(taken) if taken.overlaps(subnet)).then_some((*taken, holder))
    }
}

impl Cluster {
    /// True for a lease that claims nothing but what its node is believed to have.
    pub fn has_all_of(&self, lease: &Lease) -> bool {
        has_all_of(self.peers.get(&lease.node), lease)
    }
}

fn has_all_of(former: Option<&Arc<Lease>>, lease: &Lease) -> bool {
    former.is_some_and(|former| claims_of(lease).all(|claim| claims_of(former).any(|former| former == claim)))
}

fn claims_of(lease: &Lease) -> impl Iterator<Item = Claim> {
    let subnets = lease.subnets.iter().map(|(_, subnet)| Claim::Subnet(*subnet));
    let public = lease.public.iter().map(|(_, address)| Claim::Public(*address));
    subnets.chain(public).chain(lease.all_macs().map(Claim::Mac))
}

impl Lease {
    /// Takes from it what concerns other families.
    pub fn keep_families(&mut self, has: impl Fn(Family) -> bool) {
        for family in Family::BOTH.into_iter().filter(|family| !has(*family)) {
            *self.subnets.slot(family) = None;
            *self.data.slot(family) = None;
        }
    }

    /// Every hardware address to which other nodes may send for this one; one may come several times.
    pub fn all_macs(&self) -> impl Iterator<Item = Mac> {
        let received = self.encapsulations.iter().flat_map(|support| support.receives.values());
        let received = received.flat_map(|macs| macs.iter().map(|(_, mac)| *mac));
        self.macs().map(|(_, mac)| mac).chain(received)
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

/// Why a peer's lease cannot be true, whatever other nodes have.
fn judge(own: &Lease, peer: &Lease, rules: &AdmissionRules) -> Result<(), String> {
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
        if let Some(network) = rules.networks.get(family).filter(|network| !network.covers(subnet)) {
            return Err(format!(
                "its subnet {subnet} is not inside the Network {network}: one of the two is out of date"
            ));
        }
        if let Some(len) = rules.subnet_len.get(family).filter(|len| **len != subnet.len()) {
            return Err(format!(
                "its subnet {subnet} is no /{len} as SubnetLen has it: set one SubnetLen for all nodes, and remove its lease"
            ));
        }
    }
    for (_, &address) in peer.public.iter() {
        if let Some(fault) = fault_of(address, rules) {
            return Err(format!("its public address {address} cannot be a node's: {fault}"));
        }
    }
    if !peer.public.families().any(|family| own.public.get(family).is_some()) {
        let families = names(own.public.families());
        return Err(format!("it has no public address of a family that this node can send from ({families})"));
    }
    peer.all_macs().find(|mac| mac.is_unusable()).map_or(Ok(()), |mac| Err(mac_fault(mac, None)))
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
fn fault_of(address: IpAddr, rules: &AdmissionRules) -> Option<String> {
    let is_usable = match address {
        IpAddr::V4(v4) => is_usable_v4(v4),
        IpAddr::V6(v6) => is_usable_v6(v6),
    };
    if !is_usable || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Some("it must be a unicast address that other nodes can reach".to_owned());
    }
    let is_edge = |range: &Prefix| [range.first(), range.last()].contains(&types::number(address));
    let links = rules.host.iter().filter(|(local, len)| local.is_ipv4() && *len < 31);
    let links = links.filter_map(|(local, len)| Prefix::new(*local, *len));
    if let Some(link) = links.filter(|link| link.contains(address)).find(is_edge) {
        return Some(format!("it is the network's or the broadcast address of {link}, which this host is in"));
    }
    // Packets to it would be carried to it inside themselves, for ever.
    let network = rules.networks.get(Family::of(address)).filter(|network| network.contains(address))?;
    Some(format!("it lies inside the pods' Network {network}"))
}

/// False for "this network", link-local addresses (clouds' metadata among them), and reserved ones, the broadcast address among them.
fn is_usable_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 240 && !address.is_link_local()
}

fn is_usable_v6(address: Ipv6Addr) -> bool {
    !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
}
