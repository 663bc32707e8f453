//! What tunnels of every kind have in common: a device for the pods of a family, its MTU and its hardware address.
//!
//! Pure. Pods' and underlay's families are independent: IPv4 pods may be carried over IPv6 and the other way round.

use dataplane::types::{Family, IfName, Mac, Mtu, Vni};

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

/// The headers of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Whose they are, for people.
    pub kind: &'static str,
    /// Bytes that they take.
    pub bytes: u32,
    /// What a person can raise where they leave too little.
    pub raise: &'static str,
}

/// Why the pods of one family cannot be carried at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelDeviceError {
    /// The tunnel's headers leave too little.
    #[error(
        "{interface} carries packets of {outer} bytes, which leaves {family} pods too little after {}'s {}: raise {} to at least {least}",
        headers.kind, headers.bytes, headers.raise
    )]
    TooSmall {
        /// The interface of the underlay.
        interface: IfName,
        /// Its MTU, or the configured one.
        outer: Mtu,
        /// The pods' family.
        family: Family,
        /// What the tunnel's headers take.
        headers: Headers,
        /// What the MTU would have to be.
        least: u32,
    },
    /// The underlay has no address.
    #[error("{interface} has no address for the tunnel to {family} pods to start from")]
    NoAddress {
        /// The interface of the underlay.
        interface: IfName,
        /// The pods' family.
        family: Family,
    },
    /// The kernel has no devices of the tunnel's kind.
    #[error(
        "this kernel has no {kind} devices: modprobe {kind}, run a kernel that has them, or choose another Backend.Type"
    )]
    NoKernelSupport {
        /// The kind.
        kind: &'static str,
    },
    /// Plain routes for IPv6 need IPv6 next hops, and this interface of the underlay has no IPv6 address.
    #[error(
        "host-gw cannot carry IPv6 pods over {0}, which has no IPv6 address: the kernel has no IPv6 route by way of an IPv4 address; give the nodes IPv6 addresses or use vxlan"
    )]
    NoIpv6Address(IfName),
    /// The VNI makes a name that no device can have.
    #[error("VNI {0} gives the device a name of more than 15 bytes: choose a VNI below 100000")]
    LongName(Vni),
}

/// The MTU that the headers leave of `outer` for pods of a family.
pub(super) fn mtu(outer: Mtu, underlay: &Underlay, family: Family, headers: Headers) -> Result<Mtu, TunnelDeviceError> {
    // The kernel would silently lower one beyond the interface's, and pods would get a wrong MTU.
    let outer = outer.min(underlay.mtu);
    let least = if family == Family::V6 { LEAST_FOR_IPV6 } else { LEAST_FOR_IPV4 };
    outer.minus(headers.bytes).ok().filter(|mtu| mtu.get() >= least).ok_or_else(|| {
        let (interface, least) = (underlay.ifname.clone(), least + headers.bytes);
        TunnelDeviceError::TooSmall { interface, outer, family, headers, least }
    })
}

/// The hardware address of a node that has none yet: always the same for a node and a device, so that peers have nothing
/// new to learn after a reboot, even where the store has lost it.
pub fn fresh_mac(node: &NodeName, device: &IfName) -> Mac {
    let hash = fnv(format!("{node}/{device}").as_bytes());
    let bytes = hash.to_be_bytes();
    Mac::local(std::array::from_fn(|place| bytes[place]))
}
