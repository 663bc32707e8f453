//! `ipip`: IPv4 packets inside IPv4 packets between all nodes (RFC 2003), with plain routes to on-link peers where `DirectRouting` is
//! set, as Calico's `CrossSubnet` has it.
//!
//! Pure. The device's name, its options and what nodes publish are flannel's. One device serves all peers: the route to a peer's pods
//! names the peer's address as its next hop, and the device sends to that address.

use std::fmt;
use std::net::IpAddr;

use dataplane::link::{Ipip, Tunnel};
use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix};

use super::options::switch;
use super::tunnel_device::{self, Headers};
use super::{
    Advertisement, Backend, BackendFacts, BackendType, Configured, DeviceTexts, Encapsulate, Encapsulation, Entries,
    Entry, NoPeerRoute, PeerRoute, Traffic, TunnelDevice, TunnelDeviceError,
};
use crate::caseless::Object;
use crate::interface::Underlay;
use crate::net_conf_error::NetConfError;
use crate::on_link::OnLink;

/// Flannel's name of the device.
const DEVICE: &str = "flannel.ipip";
/// The outer IPv4 header, without options.
const OVERHEAD: u32 = 20;

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
            return Err(NetConfError::Range {
                problem: "ipip carries IPv4 packets alone, and EnableIPv6 is true".to_owned(),
                field: "Backend.Type".to_owned(),
                value: "ipip".to_owned(),
                allowed: "vxlan or host-gw, or EnableIPv6 false".to_owned(),
            });
        }
        Ok(Self { direct_routing: switch(object, "DirectRouting")? })
    }
}

impl Configured for Options {
    fn kind(&self) -> BackendType {
        BackendType::Ipip
    }

    fn encapsulations(&self) -> Vec<Encapsulation> {
        let direct = self.direct_routing.then_some(Encapsulation::Direct);
        direct.into_iter().chain([Encapsulation::Ipip]).collect()
    }

    fn reason(&self, is_direct: bool) -> &'static str {
        match (self.direct_routing, is_direct) {
            (_, true) => "on this node's link (DirectRouting)",
            (true, false) => "not on this node's link",
            (false, false) => "backend ipip",
        }
    }

    fn facts(&self) -> BackendFacts {
        let direct_routing = Some(self.direct_routing);
        BackendFacts { kind: self.kind().to_string(), direct_routing, ..BackendFacts::default() }
    }
}

/// The one tunnel of the network.
pub(super) struct IpipTunnel;

impl Encapsulate for IpipTunnel {
    fn entry(&self, _macs: PerFamily<Mac>) -> Entry {
        Entry { kind: "ipip", ..Entry::default() }
    }

    fn overhead(&self, _underlay: Family) -> u32 {
        OVERHEAD
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(Traffic {
            name: "IP protocol 4 (ipip)".to_owned(),
            tcpdump: "ip proto 4".to_owned(),
            nft: "ip protocol 4".to_owned(),
        })
    }

    fn tunnel_devices(
        &self,
        _conf: &Backend,
        pods: &[Family],
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
        let (family, mut devices) = (Family::V4, PerFamily::none());
        if pods.contains(&family) {
            if underlay.addresses.v4.is_none() {
                return Err(TunnelDeviceError::NoAddress { interface: underlay.ifname.clone(), family });
            }
            let headers = Headers { kind: "ipip", bytes: OVERHEAD, raise: "the interface's MTU" };
            let mtu = tunnel_device::mtu(underlay.mtu, underlay, family, headers)?;
            devices.v4 = DEVICE.parse().ok().map(|device| TunnelDevice { device, underlay: family, mtu });
        }
        Ok(devices)
    }

    /// Bound to the node's address and to no device, as flannel's is. The kernel's own `tunl0` is bound to neither.
    fn tunnel(&self, _conf: &Backend, local: Option<IpAddr>, _underlay: &Underlay) -> Option<Tunnel> {
        let Some(IpAddr::V4(local)) = local else { return None };
        Some(Tunnel::Ipip(Ipip { local: Some(local), remote: None, underlay: None, foreign: false }))
    }

    fn route(
        &self,
        peer: Advertisement<'_>,
        family: Family,
        device: Option<&TunnelDevice>,
        _on_link: &OnLink,
    ) -> Result<PeerRoute, NoPeerRoute> {
        device.ok_or(NoRoute { family })?;
        let endpoint = *peer.public.v4.as_ref().ok_or(NoPeerRoute::NoPublicAddress { family: Family::V4 })?;
        Ok(PeerRoute { encapsulation: Encapsulation::Ipip, endpoint, mac: None })
    }

    fn entries(&self, route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries {
        Entries::by(subnet, route.endpoint, device, true)
    }
}

impl fmt::Display for IpipTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ipip tunnel")
    }
}

/// The tunnel that a device is an end of. A device without a local address, or with a fixed peer, is none of flannel's or netd's.
pub(super) fn encapsulation_of(device: &Ipip) -> Option<(Encapsulation, Family)> {
    let is_ours = device.local.is_some() && device.remote.is_none();
    is_ours.then_some((Encapsulation::Ipip, Family::V4))
}

/// This node has no device for the pods' family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node has no ipip device for {family} pods: ipip carries IPv4 over IPv4, and the kernel must have it")]
pub struct NoRoute {
    family: Family,
}

#[cfg(test)]
mod tests;
