//! The model: this node's lease, its peers' leases, and which of those can be believed.
//!
//! Pure. What a store says is converted to these types at its border; everything behind knows nothing but them.

mod admit;
pub mod encapsulation;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use dataplane::types::{Mac, PerFamily, Prefix, Vni};

pub use admit::{Admission, PeerChange, RejectReason, Rejected};
pub use encapsulation::{Encapsulation, EncapsulationSupport, TunnelId};

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

/// How a node carries packets to its peers. Prints flannel's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendType {
    /// `vxlan`: a tunnel, or plain routes to on-link peers with `DirectRouting`.
    Vxlan,
    /// `host-gw`: plain routes only.
    HostGw,
    /// Any other name, in lower case: a node that we cannot talk to.
    Other(String),
}

impl BackendType {
    /// The same, to be kept.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            BackendType::Vxlan => "vxlan".into(),
            BackendType::HostGw => "host-gw".into(),
            BackendType::Other(name) => name.clone().into(),
        }
    }

    /// Flannel's name of it.
    pub fn as_str(&self) -> &str {
        match self {
            BackendType::Vxlan => "vxlan",
            BackendType::HostGw => "host-gw",
            BackendType::Other(name) => name,
        }
    }
}

impl From<&str> for BackendType {
    /// Reads a name in any case.
    fn from(name: &str) -> Self {
        let name = name.to_lowercase();
        match name.as_str() {
            "vxlan" => BackendType::Vxlan,
            "host-gw" => BackendType::HostGw,
            _ => BackendType::Other(name),
        }
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A node's end of the VXLAN tunnel of one pod family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vtep {
    /// The tunnel's network identifier.
    pub vni: Vni,
    /// The address of the node's VXLAN device.
    pub mac: Mac,
}

/// What one node holds and tells its peers. The pods' family and the underlay's are independent: IPv4 pods may run over an IPv6
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
    /// The node's tunnel ends, by pod family; none for backends without a tunnel.
    pub vteps: PerFamily<Vtep>,
    /// What the node receives and sends by; none from nodes that do not say so, such as flannel's.
    pub ways: Option<EncapsulationSupport>,
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
