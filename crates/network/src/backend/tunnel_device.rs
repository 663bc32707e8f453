//! What tunnels of every kind have in common: a device for the pods of a family, its MTU and its hardware address.
//!
//! Pure. Pods' and underlay's families are independent: IPv4 pods may be carried over IPv6 and the other way round.

use dataplane::types::{Family, IfName, Mac, Mtu};

use crate::hash::fnv;
use crate::interface::Underlay;
use crate::node_name::NodeName;

/// The kernel switches IPv6 off on a link with less (RFC 8200 section 5).
const LEAST_FOR_IPV6: u32 = 1280;
/// The least that IPv4 needs (RFC 791 section 3.2).
const LEAST_FOR_IPV4: u32 = 68;

/// How the pods of one family are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelDevice {
    /// The device.
    pub device: IfName,
    /// The family of the tunnel's own packets.
    pub underlay: Family,
    /// The device's MTU in bytes.
    pub mtu: Mtu,
}

/// What is left under the tunnel's headers is too small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{interface} carries packets of {outer} bytes, which leaves {family} pods too little after {}'s {}: raise {} to at least {least}",
    headers.kind, headers.bytes, headers.raise
)]
pub struct TooSmall {
    /// The interface of the underlay.
    interface: IfName,
    /// Its MTU, or the configured one.
    outer: Mtu,
    /// The pods' family.
    family: Family,
    /// What the tunnel's headers take.
    headers: Headers,
    /// What it would have to be.
    least: u32,
}

/// The headers of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    /// Whose they are, for people.
    pub(super) kind: &'static str,
    /// Bytes that they take.
    pub(super) bytes: u32,
    /// What a person can raise where they leave too little.
    pub(super) raise: &'static str,
}

/// The MTU that the headers leave of `outer` for pods of a family.
pub(super) fn mtu(outer: Mtu, underlay: &Underlay, family: Family, headers: Headers) -> Result<Mtu, TooSmall> {
    // The kernel would silently lower one beyond the interface's, and pods would get a wrong MTU.
    let outer = outer.min(underlay.mtu);
    let least = if family == Family::V6 { LEAST_FOR_IPV6 } else { LEAST_FOR_IPV4 };
    let (interface, needed) = (underlay.ifname.clone(), least + headers.bytes);
    let too_small = TooSmall { interface, outer, family, headers, least: needed };
    outer.minus(headers.bytes).ok().filter(|mtu| mtu.get() >= least).ok_or(too_small)
}

/// The hardware address of a node that has none yet: always the same for a node and a device, so that peers have nothing
/// new to learn after a reboot, even where the store has lost it.
pub fn fresh_mac(node: &NodeName, device: &IfName) -> Mac {
    let hash = fnv(format!("{node}/{device}").as_bytes());
    let bytes = hash.to_be_bytes();
    Mac::local(std::array::from_fn(|place| bytes[place]))
}
