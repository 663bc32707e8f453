//! The model: this node's lease, its peers' leases, and which of those can be believed.
//!
//! Pure. What a store says is converted to these types at its border; everything behind knows nothing but them.

mod admit;
pub mod encapsulation;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use dataplane::types::{Family, Mac, PerFamily, Prefix};

pub use crate::backend::{BackendData, BackendType, Encapsulation};
pub use admit::{Admission, PeerChange, RejectReason, Rejected};
pub use encapsulation::EncapsulationSupport;

/// A node's name: 1 to 253 bytes of letters, digits, `.`, `-` and `_`, not starting with `.`, so that it is always a file name too
/// (Kubernetes' node names, RFC 1123 subdomains, are all of them). A clone is the same text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no node name: it must have 1 to 253 letters, digits, '.', '-' or '_' and not start with '.'")]
pub struct NodeNameError {
    name: String,
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if (1..=253).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good) {
            Ok(Self(name.into()))
        } else {
            Err(NodeNameError { name: name.to_owned() })
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

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
