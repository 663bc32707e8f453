//! The kinds of problems that netd reports.
//!
//! Pure.

use std::fmt;

use ::reconcile::problem;
use serde::{Deserialize, Serialize};

/// A problem of this node.
pub type Problem = problem::Problem<Kind>;
/// All problems of this node.
pub type Problems = problem::Problems<Kind>;

/// What kind of problem it is. In documents and Events the variant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The daemon cannot start.
    CannotStart,
    /// The network configuration cannot be used.
    InvalidConfiguration,
    /// The store has no subnets for this node.
    #[serde(rename = "NoPodCIDR")]
    NoPodCidr,
    /// The store has subnets for this node that cannot be used.
    #[serde(rename = "WrongPodCIDR")]
    WrongPodCidr,
    /// The store has other subnets for this node than its pods use.
    #[serde(rename = "PodCIDRChanged")]
    PodCidrChanged,
    /// This node's lease is not in the store.
    LeaseLost,
    /// Another machine has this node's name.
    NodeNameTaken,
    /// This node's lease in the store is not up to date, so its peers are not either.
    LeaseNotPublished,
    /// The peers' leases cannot be read.
    PeersNotRead,
    /// The interface between nodes cannot be used.
    UnderlayUnusable,
    /// The kernel's state cannot be compared with the desired one.
    CannotReconcile,
    /// An object of somebody else's stands in the place of one of netd's.
    Conflict,
    /// The kernel refuses an operation.
    OperationFailed,
    /// A file of netd's cannot be written.
    FileNotWritten,
    /// Something else undoes netd's objects again and again.
    Contested,
    /// The host's firewall drops forwarded packets of pods.
    ForwardingBlocked,
    /// A policy rule of the host's sends packets to pods elsewhere.
    PodsDiverted,
    /// A node of the store is left out.
    NodeLeftOut,
    /// The pods of a node cannot be reached.
    NoPeerRoute,
    /// The pods of a node are not reached as configured.
    PeerRouteDegraded,
    /// The proxy for Services does not run.
    ProxyFailed,
    /// The API server is reached by its Service, which netd's own proxy serves.
    ApiServerByService,
    /// The proxy reports it: about Services, or about the kernel's tables of Services.
    #[serde(untagged)]
    Service(proxy::problem::Kind),
}

impl Kind {
    /// True for problems of the proxy, which do not concern the pod network.
    pub fn is_of_proxy(self) -> bool {
        matches!(self, Kind::ProxyFailed | Kind::ApiServerByService | Kind::Service(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests;
