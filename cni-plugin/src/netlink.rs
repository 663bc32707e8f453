//! The kernel's side of an attachment, through `dataplane`: the bridge, the veth pair, the pod's end.
//!
//! Each function is one step and undoes nothing: the verbs decide the order and undo.

pub mod bridge;
pub mod namespace;
pub mod pod;
pub mod ports;
pub mod veth;

use std::fmt::Display;
use std::net::IpAddr;

use dataplane::address::Address;
use dataplane::netlink::KernelError;
use dataplane::types::{Mac, number};
use ipnetwork::IpNetwork;

use crate::cni_error::{CniError, Code};

/// Adds the failed operation to the kernel's error.
pub(crate) fn step(action: impl Display) -> impl FnOnce(KernelError) -> CniError {
    move |source| {
        let causes = CniError::of(Code::Kernel, &source);
        CniError { message: format!("cannot {action}: {causes}"), ..causes }
    }
}

/// The outcome of an operation that has nothing to do where its object is missing.
pub(crate) fn if_there<T>(outcome: Result<T, KernelError>, action: impl Display) -> Result<(), CniError> {
    match outcome {
        Err(error) if !error.is_missing() => Err(step(action)(error)),
        _ => Ok(()),
    }
}

/// An address of a link with its subnet's length.
pub(crate) fn on_link(address: &Address) -> Option<IpNetwork> {
    IpNetwork::new(address.address, address.prefix_len).ok()
}

/// A hardware address that follows from an IP address: `0a:58` and the IPv4 address, or the last four octets of the
/// IPv6 one. An address that goes to another pod keeps its hardware address, so no neighbour's cache is ever wrong.
pub fn mac_for(address: IpAddr) -> Mac {
    let [.., a, b, c, d] = number(address).to_be_bytes();
    Mac([0x0a, 0x58, a, b, c, d])
}
