//! The model: this node's lease, its peers' leases, and which of those can be believed.
//!
//! Pure. What a store says is converted to these types at its border; everything behind knows nothing but them.

mod admit;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{Family, Mac, PerFamily, Prefix};

use crate::backend::Advertisement;
pub use crate::backend::{BackendData, BackendType, Encapsulation, EncapsulationSupport};
pub use crate::node_name::{NodeName, NodeNameError};
pub use admit::{Admission, AdmissionRules, PeerChange, Rejected};

/// What one node holds and publishes for its peers. The pods' family and the underlay's are independent: IPv4 pods may run over an IPv6
/// underlay and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The node.
    pub node: NodeName,
    /// The ranges of the node's pods, by pod family.
    pub subnets: PerFamily<Prefix>,
    /// Where peers send packets for the node, by underlay family.
    pub public: PerFamily<IpAddr>,
    /// How the node wants packets carried.
    pub backend: BackendType,
    /// What the backend publishes, by pod family; none for backends without data.
    pub data: PerFamily<BackendData>,
    /// The encapsulations that the node receives and sends; none from nodes that do not say so, such as flannel's.
    pub encapsulations: Option<EncapsulationSupport>,
}

impl Lease {
    /// What the backends read of it.
    pub fn advertisement(&self) -> Advertisement<'_> {
        Advertisement { public: &self.public, data: &self.data, encapsulations: self.encapsulations.as_ref() }
    }

    /// The hardware addresses of the node's tunnel ends, by pod family.
    pub fn macs(&self) -> impl Iterator<Item = (Family, Mac)> {
        self.data.iter().filter_map(|(family, data)| Some((family, data.mac()?)))
    }
}

/// This node and the peers that it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// This node's lease.
    pub own: Lease,
    /// The peers, without this node. No two subnets of the whole overlap, and every one has a family of `own`.
    pub peers: BTreeMap<NodeName, Arc<Lease>>,
}

#[cfg(test)]
mod tests;
