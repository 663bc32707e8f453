//! Which service port has an address and port, or a node port, where several claim it.
//!
//! The older Service has it; of two of one age the first by name. A cluster IP goes before any other address, so that nobody takes over a
//! Service with an external IP (CVE-2020-8554). The answer depends on the claims alone, not on the order in which they were made.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::types::Family;

use crate::model::{PortKey, Protocol, ServicePort};
use crate::problem::{Kind, Problem};

/// Something that one service port alone can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A cluster, external or load balancer's address, with protocol and port.
    Address(IpAddr, Protocol, u16),
    /// A port on the node's addresses of a family.
    NodePort(Family, Protocol, u16),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Claim::Address(address, protocol, port) => write!(f, "{}/{protocol}", SocketAddr::new(address, port)),
            Claim::NodePort(family, protocol, port) => write!(f, "node port {port}/{protocol} ({family})"),
        }
    }
}

/// A claim that a service port has lost to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What both claim.
    pub claim: Claim,
    /// Who has it.
    pub holder: PortKey,
    /// Who does not.
    pub loser: PortKey,
    /// Why.
    reason: &'static str,
    /// The loser has no other cluster IP, so that it is not served at all.
    is_whole: bool,
}

impl Conflict {
    /// The problem to report.
    pub fn problem(&self) -> Problem {
        let Conflict { claim, holder, loser, reason, is_whole } = self;
        let (kind, remedy) = match claim {
            Claim::Address(..) => (Kind::AddressConflict, "remove the address from one of the two Services"),
            Claim::NodePort(..) => (Kind::NodePortConflict, "give one of the two Services another node port"),
        };
        let effect = if *is_whole { ", and the port is not served at all" } else { "" };
        let detail = format!("is that of Service {}, {reason}{effect}", holder.name);
        Problem::new(kind, format!("{claim} of Service {}", loser.name), detail).with_remedy(remedy)
    }
}

#[derive(Debug)]
struct Claimants {
    holder: Arc<ServicePort>,
    others: Vec<Arc<ServicePort>>,
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: HashMap<Claim, Claimants>,
    /// The claims with more than one claimant.
    contested: BTreeSet<Claim>,
}

impl Claims {
    /// Adds a port's claims. Gives the ports that have lost something by that.
    pub(super) fn add(&mut self, port: &Arc<ServicePort>) -> Vec<PortKey> {
        let mut losers = Vec::new();
        for claim in claims(port) {
            let Some(claimants) = self.claims.get_mut(&claim) else {
                self.claims.insert(claim, Claimants { holder: Arc::clone(port), others: Vec::new() });
                continue;
            };
            let mut other = Arc::clone(port);
            if goes_before(claim, port, &claimants.holder) {
                std::mem::swap(&mut claimants.holder, &mut other);
                losers.push(other.key());
            }
            claimants.others.push(other);
            self.contested.insert(claim);
        }
        losers
    }

    /// Removes a port's claims. Gives the ports that have won something by that.
    pub(super) fn remove(&mut self, port: &Arc<ServicePort>) -> Vec<PortKey> {
        let mut winners = Vec::new();
        for claim in claims(port) {
            let Some(claimants) = self.claims.get_mut(&claim) else { continue };
            if !Arc::ptr_eq(&claimants.holder, port) {
                claimants.others.retain(|other| !Arc::ptr_eq(other, port));
            } else if let Some(first) = first(claim, &claimants.others) {
                claimants.holder = claimants.others.swap_remove(first);
                winners.push(claimants.holder.key());
            } else {
                self.claims.remove(&claim);
                continue;
            }
            if claimants.others.is_empty() {
                self.contested.remove(&claim);
            }
        }
        winners
    }

    pub(super) fn is_contested(&self, port: &ServicePort) -> bool {
        !self.contested.is_empty() && claims(port).iter().any(|claim| self.contested.contains(claim))
    }

    /// The port without what others have; `None` where another one has its cluster IP and port.
    pub(super) fn granted(&self, port: &Arc<ServicePort>) -> Option<Arc<ServicePort>> {
        if !self.is_contested(port) {
            return Some(Arc::clone(port));
        }
        let has = |claim| self.claims.get(&claim).is_none_or(|claimants| Arc::ptr_eq(&claimants.holder, port));
        let protocol = port.name.protocol;
        let has_address = |address: &IpAddr| has(Claim::Address(*address, protocol, port.port));
        if !has_address(&port.cluster_ip) {
            return None;
        }
        let mut granted = ServicePort::clone(port);
        granted.node_port = port.node_port.filter(|number| has(Claim::NodePort(port.family, protocol, *number)));
        granted.external_ips.retain(has_address);
        granted.load_balancer_ips.retain(has_address);
        Some(Arc::new(granted))
    }

    pub(super) fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        let contested = self.contested.iter().filter_map(|claim| Some((*claim, self.claims.get(claim)?)));
        contested.flat_map(|(claim, Claimants { holder, others })| {
            others.iter().map(move |loser| {
                let reason = if is_cluster_ip(claim, holder) && !is_cluster_ip(claim, loser) {
                    "whose cluster IP it is"
                } else if age(holder) == age(loser) {
                    "which comes first by name"
                } else {
                    "which is older"
                };
                let is_whole = is_cluster_ip(claim, loser);
                Conflict { claim, holder: holder.key(), loser: loser.key(), reason, is_whole }
            })
        })
    }
}

/// What a port claims, each once.
fn claims(port: &ServicePort) -> Vec<Claim> {
    let protocol = port.name.protocol;
    let addresses =
        [port.cluster_ip].into_iter().chain(port.external_ips.iter().chain(&port.load_balancer_ips).copied());
    let addresses = addresses.map(|address| Claim::Address(address, protocol, port.port));
    let node_port = port.node_port.map(|number| Claim::NodePort(port.family, protocol, number));
    let mut claims: Vec<Claim> = addresses.chain(node_port).collect();
    claims.sort_unstable();
    claims.dedup();
    claims
}

fn is_cluster_ip(claim: Claim, port: &ServicePort) -> bool {
    matches!(claim, Claim::Address(address, ..) if address == port.cluster_ip)
}

/// A Service of unknown age is younger than any other.
fn age(port: &ServicePort) -> impl Ord + use<> {
    (port.created.is_none(), port.created)
}

fn goes_before(claim: Claim, port: &ServicePort, other: &ServicePort) -> bool {
    let rank = |port: &ServicePort| (!is_cluster_ip(claim, port), age(port), port.key());
    rank(port) < rank(other)
}

fn first(claim: Claim, ports: &[Arc<ServicePort>]) -> Option<usize> {
    (0..ports.len()).reduce(|first, next| if goes_before(claim, &ports[next], &ports[first]) { next } else { first })
}

#[cfg(test)]
mod tests;
