//! The kernel's side of an attachment, through `dataplane`: the bridge, the veth pair, the pod's end.
//!
//! Each function is one step and undoes nothing: the verbs decide the order and undo.

pub mod bridge;
pub mod namespace;
pub mod pod;
pub mod veth;

use std::net::IpAddr;

use dataplane::netlink::KernelError;
use dataplane::types::{IfName, Mac};
use ipnetwork::IpNetwork;

use crate::cni_error::{CniError, Code};

/// Why a step in the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused a step.
    #[error("cannot {action}")]
    Step {
        /// The operation and its object.
        action: String,
        /// The kernel's error.
        #[source]
        source: KernelError,
    },
    /// A link with the bridge's name is of another kind.
    #[error("\"{0}\" already exists but is not a bridge; give another name in 'bridge'")]
    NotABridge(IfName),
    /// The bridge has an address of another subnet.
    #[error(
        "\"{bridge}\" already has an IP address different from {wanted}: {present}; remove that address, or set \
         'forceAddress' to have it replaced"
    )]
    OtherAddress {
        /// The bridge.
        bridge: IfName,
        /// What it should have.
        wanted: IpNetwork,
        /// What it has.
        present: IpNetwork,
    },
    /// The container has an interface of that name.
    #[error("interface {0} already exists in the container's namespace")]
    IfnameTaken(IfName),
    /// The node has a link with the name of the attachment's host end.
    #[error("link {0} already exists: the attachment was added before; DEL removes it")]
    VethTaken(IfName),
    /// The bridge does not pass the pod's frames.
    #[error("bridge port {port} is not forwarding after {seconds} s")]
    NotForwarding {
        /// The host end.
        port: IfName,
        /// How long the plugin has waited.
        seconds: u64,
    },
    /// The host end is still there after its removal.
    #[error("link {name} is still there after {seconds} s; it is to be removed again")]
    NotGone {
        /// The host end.
        name: IfName,
        /// How long the plugin has waited.
        seconds: u64,
    },
}

impl From<NetlinkError> for CniError {
    fn from(error: NetlinkError) -> Self {
        let code = match error {
            NetlinkError::NotABridge(_) | NetlinkError::OtherAddress { .. } => Code::InvalidConfiguration,
            NetlinkError::IfnameTaken(_) | NetlinkError::VethTaken(_) => Code::AlreadyThere,
            NetlinkError::NotForwarding { .. } | NetlinkError::NotGone { .. } => Code::TryAgainLater,
            NetlinkError::Step { .. } => Code::Kernel,
        };
        CniError::of(code, &error)
    }
}

/// Adds the failed operation to the kernel's error.
pub(crate) fn step(action: impl Into<String>) -> impl FnOnce(KernelError) -> NetlinkError {
    |source| NetlinkError::Step { action: action.into(), source }
}

/// A hardware address that follows from an IP address: `0a:58` and the IPv4 address, or the last four octets of the
/// IPv6 one. An address that goes to another pod keeps its hardware address, so no neighbour's cache is ever wrong.
pub fn mac_for(address: IpAddr) -> Mac {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
    };
    let [a, b, c, d] = octets;
    Mac([0x0a, 0x58, a, b, c, d])
}
