//! Which VXLAN device carries the pods of a family, over which family of the underlay, and what MTU is left.
//!
//! Pure. Pods' and underlay's families are independent: IPv4 pods may be carried over IPv6 and the other way round.

use std::collections::BTreeMap;

use dataplane::link::{Kind, Link};
use dataplane::types::{Family, IfName, Mac, Mtu, PerFamily, Vni};

use crate::hash::fnv;
use crate::interface::Underlay;
use crate::model::{NodeName, TunnelId};
use crate::net_conf::VxlanOptions;

/// Outer Ethernet 14 + IP 20 or 40 + UDP 8 + VXLAN 8 bytes (RFC 7348 section 5).
pub fn overhead(underlay: Family) -> u32 {
    match underlay {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// IPv6 is switched off by the kernel on a link with less (RFC 8200 section 5).
const LEAST_FOR_IPV6: u32 = 1280;

/// How the pods of one family are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelDevice {
    /// The VXLAN device.
    pub device: IfName,
    /// The family of the tunnel's own packets.
    pub underlay: Family,
    /// The device's MTU in bytes.
    pub mtu: Mtu,
}

/// Why a family's pods cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelDeviceError {
    /// What is left under the tunnel's headers is too small.
    #[error(
        "{interface} carries packets of {outer} bytes, which leaves {family} pods too little after VXLAN's {overhead}: raise Backend.MTU or the interface's MTU to at least {least}"
    )]
    TooSmall {
        /// The interface of the underlay.
        interface: IfName,
        /// Its MTU, or `Backend.MTU`.
        outer: u32,
        /// The pods' family.
        family: Family,
        /// Bytes that the tunnel's headers take.
        overhead: u32,
        /// What it would have to be.
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
    /// Plain routes for IPv6 need IPv6 next hops.
    #[error(
        "host-gw cannot carry IPv6 pods over {interface}, which has no IPv6 address: the kernel has no IPv6 route by way of an IPv4 address; give the nodes IPv6 addresses or use vxlan"
    )]
    NoIpv6NextHop {
        /// The interface of the underlay.
        interface: IfName,
    },
    /// The VNI makes a name that no device can have.
    #[error("VNI {vni} gives the device a name of more than 15 bytes: choose a VNI below 100000")]
    Name {
        /// The VNI.
        vni: Vni,
    },
}

/// Checks that plain routes can carry the families of `pods`. IPv4 can take IPv6 next hops, but not the other way round.
pub fn plain_routes(pods: &[Family], underlay: &Underlay) -> Result<(), TunnelDeviceError> {
    if pods.contains(&Family::V6) && underlay.addresses.v6.is_none() {
        return Err(TunnelDeviceError::NoIpv6NextHop { interface: underlay.ifname.clone() });
    }
    Ok(())
}

/// The tunnel_device of each family of `pods`.
///
/// IPv6 pods have a device of their own, as with flannel, unless IPv4 pods run over the same family of the underlay:
/// the kernel takes one device per VNI, port and underlay family.
pub fn tunnel_devices(
    options: &VxlanOptions,
    pods: impl Iterator<Item = Family>,
    underlay: &Underlay,
) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
    let mut tunnel_devices: PerFamily<TunnelDevice> = PerFamily::none();
    for family in pods {
        let over = underlay_family(family, &underlay.addresses)
            .ok_or_else(|| TunnelDeviceError::NoAddress { interface: underlay.ifname.clone(), family })?;
        let shared = family == Family::V6 && tunnel_devices.v4.as_ref().is_some_and(|v4| v4.underlay == over);
        let device = device_name(if shared { Family::V4 } else { family }, options.vni)?;
        let mtu = device_mtu(options, underlay, over, family)?;
        *tunnel_devices.slot(family) = Some(TunnelDevice { device, underlay: over, mtu });
    }
    Ok(tunnel_devices)
}

/// Flannel's names, so that a device of its is adopted.
fn device_name(family: Family, vni: Vni) -> Result<IfName, TunnelDeviceError> {
    let name = match family {
        Family::V4 => format!("flannel.{vni}"),
        Family::V6 => format!("flannel-v6.{vni}"),
    };
    name.parse().map_err(|_| TunnelDeviceError::Name { vni })
}

/// The tunnel_devices with the names that their devices have on this host. Where `is_taken` says so of the usual name and of the tunnel
/// whose device has it now, if that is one of ours, since another tunnel differs only by its port, the name is made of VNI and
/// port; a device keeps that name for as long as it is.
pub fn placed(
    tunnel_devices: &PerFamily<TunnelDevice>,
    tunnel: TunnelId,
    links: &BTreeMap<IfName, Link>,
    mark: &str,
    is_taken: impl Fn(&IfName, Option<TunnelId>) -> bool,
) -> PerFamily<TunnelDevice> {
    let ours = |name: &IfName| links.get(name).filter(|link| link.alias.as_deref() == Some(mark)).and_then(tunnel_of);
    tunnel_devices.map(|_, tunnel_device| {
        let family = if tunnel_device.underlay == Family::V4 { 4 } else { 6 };
        let by_port = format!("fl{family}.{:x}.{:x}", tunnel.vni.get(), tunnel.port).parse();
        let is_there = |name: &IfName| ours(name) == Some((tunnel, tunnel_device.underlay));
        let holder = ours(&tunnel_device.device).map(|(holder, _)| holder);
        let is_taken = is_taken(&tunnel_device.device, holder);
        let device =
            by_port.ok().filter(|name| is_taken || is_there(name)).unwrap_or_else(|| tunnel_device.device.clone());
        TunnelDevice { device, ..tunnel_device.clone() }
    })
}

/// Which tunnel a device is an end of, and the family of the tunnel's own packets.
pub fn tunnel_of(link: &Link) -> Option<(TunnelId, Family)> {
    match &link.kind {
        Kind::Vxlan(vxlan) => Some((TunnelId { vni: vxlan.vni, port: vxlan.port }, Family::of(vxlan.local?))),
        _ => None,
    }
}

/// The same family where the underlay has it, else the other.
fn underlay_family<T>(pods: Family, addresses: &PerFamily<T>) -> Option<Family> {
    addresses.get(pods).map(|_| pods).or_else(|| addresses.families().next())
}

fn device_mtu(
    options: &VxlanOptions,
    underlay: &Underlay,
    over: Family,
    family: Family,
) -> Result<Mtu, TunnelDeviceError> {
    // The kernel would silently lower a larger one, and pods would be told a wrong MTU.
    let outer = options.mtu.map_or(underlay.mtu, |mtu| mtu.min(underlay.mtu));
    let overhead = overhead(over);
    let least = if family == Family::V6 { LEAST_FOR_IPV6 } else { 68 };
    let too_small = || TunnelDeviceError::TooSmall {
        interface: underlay.ifname.clone(),
        outer: outer.get(),
        family,
        overhead,
        least: least + overhead,
    };
    outer.minus(overhead).ok().filter(|mtu| mtu.get() >= least).ok_or_else(too_small)
}

/// The hardware address of a node that has none yet: always the same for a node and a device, so that peers have nothing
/// new to learn after a reboot, even where the store has lost it.
pub fn fresh_mac(node: &NodeName, device: &IfName) -> Mac {
    let hash = fnv(format!("{node}/{device}").as_bytes());
    let bytes = hash.to_be_bytes();
    Mac::local(std::array::from_fn(|place| bytes[place]))
}
