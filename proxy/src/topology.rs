//! Which endpoints of a service port take part on this node.
//!
//! Pure. The rules are kube-proxy's: ready endpoints; where there are none, those that terminate and still serve. Hints thin the ready
//! endpoints of the cluster, never the fallback and never the endpoints of this node. The endpoints of the cluster and those of the node
//! fall back independently. `publishNotReadyAddresses` needs no rule: the condition `ready` is true then.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Endpoint, Policy, ServicePort};

/// This node: hints name nodes and zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'p> {
    /// The node's name.
    pub node: &'p str,
    /// The node's zone, if known.
    pub zone: Option<&'p str>,
}

/// An endpoint of a service port, with the port's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'e> {
    /// The address and port.
    pub address: SocketAddr,
    /// The endpoint.
    pub endpoint: &'e Endpoint,
}

/// A service port and its endpoints on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The service port, without the addresses and the node port that another Service has.
    pub port: Arc<ServicePort>,
    /// The endpoints for policy Cluster, sorted.
    pub cluster: Vec<SocketAddr>,
    /// The endpoints for policy Local, sorted: those of this node. Given whatever the policies are: no other endpoint that is used can
    /// connect to itself through the Service.
    pub local: Vec<SocketAddr>,
    /// How many of `local` are ready: what the health check of a load balancer counts.
    pub local_ready: usize,
    /// The Service has an endpoint somewhere: a packet for which there is none here is dropped, not rejected.
    pub has_any: bool,
}

/// Where packets to a service port go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'r> {
    /// To one of these endpoints, of which there is at least one.
    Endpoints(&'r [SocketAddr]),
    /// Dropped: the policy is Local, and only other nodes have endpoints.
    Drop,
    /// Rejected: there are no endpoints.
    Reject,
}

impl Resolved {
    /// Where packets to the cluster IP go.
    pub fn internal(&self) -> Target<'_> {
        self.target(self.port.internal_policy)
    }

    /// Where packets from outside to the node port, the external and the load balancer's addresses go.
    pub fn external(&self) -> Target<'_> {
        self.target(self.port.external_policy)
    }

    /// Where packets go under a policy.
    pub fn target(&self, policy: Policy) -> Target<'_> {
        let endpoints = match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        };
        match (endpoints.is_empty(), self.has_any) {
            (false, _) => Target::Endpoints(endpoints),
            (true, true) => Target::Drop,
            (true, false) => Target::Reject,
        }
    }
}

/// Why an endpoint is left out. Displayed as the end of a sentence about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// Neither ready nor a terminating one that still serves.
    NotReady,
    /// It terminates and does not serve.
    NotServing,
    /// It terminates and serves, but others are ready.
    OthersAreReady,
    /// The endpoints have hints for nodes, and its are for others.
    HintsForOtherNodes,
    /// The endpoints have hints for zones, and its are for others.
    HintsForOtherZones,
    /// It is on another node.
    NotLocal,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LeftOut::NotReady => "is not ready",
            LeftOut::NotServing => "is terminating and does not serve any more",
            LeftOut::OthersAreReady => "is terminating, and others are ready",
            LeftOut::HintsForOtherNodes => "has hints for other nodes",
            LeftOut::HintsForOtherZones => "has hints for other zones",
            LeftOut::NotLocal => "is on another node",
        })
    }
}

/// Whether an endpoint takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Why not for policy Cluster, if it does not.
    pub cluster: Option<LeftOut>,
    /// Why not for policy Local, if it does not.
    pub local: Option<LeftOut>,
}

/// How hints thin the ready endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hints {
    Unused,
    Node,
    Zone,
}

/// Judges the endpoints of one service port, in their order.
pub fn judge(candidates: &[Candidate<'_>], place: Place<'_>) -> Vec<Part> {
    let endpoints = || candidates.iter().map(|candidate| candidate.endpoint);
    let hints = hints(candidates, place);
    let (is_any_ready, is_local_ready) = (endpoints().any(|e| e.ready), endpoints().any(|e| e.ready && e.is_local));
    let part = |endpoint: &Endpoint| {
        let state = |is_any_ready: bool| match (endpoint.ready, endpoint.serving, endpoint.terminating) {
            (true, ..) => None,
            (false, true, true) => is_any_ready.then_some(LeftOut::OthersAreReady),
            (false, false, true) => Some(LeftOut::NotServing),
            (false, _, false) => Some(LeftOut::NotReady),
        };
        let hint = match hints {
            Hints::Node if !holds(&endpoint.node_hints, place.node) => Some(LeftOut::HintsForOtherNodes),
            Hints::Zone if !place.zone.is_some_and(|zone| holds(&endpoint.zone_hints, zone)) => {
                Some(LeftOut::HintsForOtherZones)
            }
            _ => None,
        };
        let local = if endpoint.is_local { state(is_local_ready) } else { Some(LeftOut::NotLocal) };
        Part { cluster: state(is_any_ready).or(hint), local }
    };
    endpoints().map(part).collect()
}

/// Hints count only where every ready endpoint has one and at least one is for this node, or its zone: else a node
/// without an endpoint of its own would have none.
fn hints(candidates: &[Candidate<'_>], place: Place<'_>) -> Hints {
    let ready = || candidates.iter().map(|candidate| candidate.endpoint).filter(|endpoint| endpoint.ready);
    let count = |hints: fn(&Endpoint) -> &Box<[Arc<str>]>, own: Option<&str>| {
        let all = ready().all(|endpoint| !hints(endpoint).is_empty());
        all && own.is_some_and(|own| ready().any(|endpoint| holds(hints(endpoint), own)))
    };
    if count(|endpoint| &endpoint.node_hints, Some(place.node)) {
        Hints::Node
    } else if count(|endpoint| &endpoint.zone_hints, place.zone) {
        Hints::Zone
    } else {
        Hints::Unused
    }
}

fn holds(hints: &[Arc<str>], own: &str) -> bool {
    hints.iter().any(|hint| **hint == *own)
}

/// Resolves a service port with its endpoints, each of which is given once, sorted by address.
pub fn resolve(port: Arc<ServicePort>, candidates: &[Candidate<'_>], place: Place<'_>) -> Resolved {
    let parts = judge(candidates, place);
    let chosen = |left_out: fn(&Part) -> Option<LeftOut>| {
        let chosen = candidates.iter().zip(&parts).filter(move |(_, part)| left_out(part).is_none());
        chosen.map(|(candidate, _)| candidate.address).collect()
    };
    let is_ready_here = |candidate: &&Candidate<'_>| candidate.endpoint.ready && candidate.endpoint.is_local;
    let is_usable = |endpoint: &Endpoint| endpoint.ready || endpoint.is_serving_terminating();
    Resolved {
        port,
        cluster: chosen(|part| part.cluster),
        local: chosen(|part| part.local),
        local_ready: candidates.iter().filter(is_ready_here).count(),
        has_any: candidates.iter().any(|candidate| is_usable(candidate.endpoint)),
    }
}

#[cfg(test)]
mod tests;
