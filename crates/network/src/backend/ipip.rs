//! `ipip`: IPv4 packets inside IPv4 packets between all nodes (RFC 2003), with plain routes to on-link peers where `DirectRouting` is
//! set, as Calico's `CrossSubnet` has it.
//!
//! Pure. The device's name, its options and what nodes publish are flannel's. One device serves all peers: the route to a peer's pods
//! names the peer's address as its next hop, and the device sends to that address.

use std::net::IpAddr;

use dataplane::link::{Ipip, Tunnel};
use dataplane::types::{Family, PerFamily};

use super::options::switch;
use super::tunnel_device::{self, Headers};
use super::{Advertisement, DeviceTexts, NoPeerRoute, TunnelDevice, TunnelDeviceError};
use crate::caseless::Object;
use crate::interface::Underlay;
use crate::net_conf_error::NetConfError;

/// Flannel's name of the device.
const DEVICE: &str = "flannel.ipip";
/// The outer IPv4 header, without options.
pub(super) const OVERHEAD: u32 = 20;

/// Texts about ipip devices.
pub(super) const TEXTS: DeviceTexts = DeviceTexts { kind: "ipip", identity: "local address", remedy: "" };

/// The options in `net-conf.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether on-link peers get a plain route in place of the tunnel.
    pub direct_routing: bool,
}

impl Options {
    pub(super) fn take(object: &mut Object<'_>, ipv6: bool) -> Result<Self, NetConfError> {
        if ipv6 {
            let (problem, allowed) =
                ("ipip carries IPv4 packets alone, and EnableIPv6 is true", "vxlan or host-gw, or EnableIPv6 false");
            return Err(NetConfError::value(problem, "Backend.Type", "ipip", allowed));
        }
        Ok(Self { direct_routing: switch(object, "DirectRouting")? })
    }
}

/// The device that carries IPv4 pods.
pub(super) fn devices(pods: &[Family], underlay: &Underlay) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
    let family = Family::V4;
    if !pods.contains(&family) {
        return Ok(PerFamily::none());
    }
    if underlay.addresses.v4.is_none() {
        return Err(TunnelDeviceError::NoAddress { interface: underlay.ifname.clone(), family });
    }
    let headers = Headers { kind: "ipip", bytes: OVERHEAD, raise: "the interface's MTU" };
    let mtu = tunnel_device::mtu(underlay.mtu, underlay, family, headers)?;
    let device = DEVICE.parse().ok().map(|device| TunnelDevice { device, underlay: family, mtu });
    Ok(PerFamily { v4: device, v6: None })
}

/// Bound to the node's address and to no device, as flannel's is. The kernel's own `tunl0` is bound to neither.
pub(super) fn tunnel(local: Option<IpAddr>) -> Option<Tunnel> {
    let Some(IpAddr::V4(local)) = local else { return None };
    Some(Tunnel::Ipip(Ipip { local: Some(local), remote: None, underlay: None, foreign: false }))
}

/// The peer's end of the tunnel.
pub(super) fn end(
    peer: Advertisement<'_>,
    family: Family,
    device: Option<&TunnelDevice>,
) -> Result<IpAddr, NoPeerRoute> {
    device.ok_or(NoPeerRoute::NoIpipDevice(family))?;
    peer.public.v4.ok_or(NoPeerRoute::NoPublicAddress(Family::V4))
}

#[cfg(test)]
mod tests;
