//! `vxlan`: a VXLAN tunnel between all nodes (RFC 7348), with plain routes to on-link peers where `DirectRouting` is set.
//!
//! Pure. Names, defaults and published data are flannel's, so that nodes with flannel and with netd reach each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::link::{Link, Tunnel, Vxlan};
use dataplane::types::{Family, IfName, Mac, Mtu, PerFamily, Prefix, Vni};
use serde::Serialize;

use super::options::{number, switch};
use super::tunnel_device::{self, Headers};
use super::{
    Advertisement, Backend, BackendData, DeviceTexts, Encapsulation, Entries, NoPeerRoute, PeerRoute, TunnelDevice,
    TunnelDeviceError,
};
use crate::caseless::Object;
use crate::interface::Underlay;
use crate::net_conf_error::NetConfError;
use crate::node_name::NodeName;
use crate::record_error::RecordError;

/// The kernel's default VXLAN port, which flannel keeps too; the assigned one is 4789 (RFC 7348).
const DEFAULT_PORT: u16 = 8472;
/// Flannel's `BackendData`, as messages show it.
pub(super) const DATA_EXAMPLE: &str = r#"{"VNI":1,"VtepMAC":"0a:58:0a:f4:01:02"}"#;
const MAC_EXAMPLE: &str = "a MAC address like 0a:58:0a:f4:01:02";
const VNI_RANGE: &str = "a whole number from 1 to 16777215";

/// Texts about VXLAN devices.
pub const TEXTS: DeviceTexts =
    DeviceTexts { kind: "VXLAN", identity: "VNI and port", remedy: ", or choose another Backend.VNI or Backend.Port" };

/// The options in `net-conf.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The tunnel's network identifier, 1 where not given.
    pub vni: Vni,
    /// The UDP port; none: the kernel's, 8472.
    pub port: Option<u16>,
    /// The MTU that the underlay is taken to have; none: that of the underlay's interface. Pods get less by the encapsulation.
    pub mtu: Option<Mtu>,
    /// Group based policy (`gbp`).
    pub gbp: bool,
    /// Whether the device learns addresses from packets.
    pub learning: bool,
    /// Whether on-link peers get a plain route in place of the tunnel.
    pub direct_routing: bool,
}

impl Options {
    /// As flannel has them where nothing is given.
    pub const PLAIN: Self =
        Self { vni: Vni::ONE, port: None, mtu: None, gbp: false, learning: false, direct_routing: false };

    pub(super) fn take(object: &mut Object<'_>, ipv6: bool) -> Result<Self, NetConfError> {
        // RFC 8200 section 5: no link with a smaller MTU carries IPv6.
        let least_mtu = if ipv6 { 1280 } else { 68 };
        Ok(Self {
            vni: number(object, "VNI", 1..=0x00ff_ffff, false)?.unwrap_or(Vni::ONE),
            port: number(object, "Port", 1..=65535, true)?,
            mtu: number(object, "MTU", least_mtu..=65535, true)?,
            gbp: switch(object, "GBP")?,
            learning: switch(object, "Learning")?,
            direct_routing: switch(object, "DirectRouting")?,
        })
    }

    /// The tunnel that they describe.
    pub fn tunnel(&self) -> TunnelId {
        TunnelId { vni: self.vni, port: self.port.unwrap_or(DEFAULT_PORT) }
    }

    /// The options for a tunnel that may be another one than the configured.
    fn in_use(conf: &Backend) -> Self {
        if let Backend::Vxlan(options) = conf { *options } else { Self::PLAIN }
    }

    /// A device that is there keeps its hardware address, and a lease its own, so that peers need not learn new ones.
    pub(super) fn data_requests(&self, own: &OwnState<'_>) -> PerFamily<DataRequest> {
        let encapsulation = Encapsulation::Vxlan(self.tunnel());
        let advertised = own.stored.and_then(|stored| stored.encapsulations?.receives.get(&encapsulation));
        own.devices.map(|family, TunnelDevice { device, .. }| {
            // What peers send to by now, whichever device has it: the tunnel may have begun as that of a change of theirs.
            let known = advertised.and_then(|macs| macs.get(family).copied()).filter(|mac| !mac.is_unusable());
            let known = known.or_else(|| device_mac(own.links, device)).or_else(|| stored_mac(own, device));
            let fresh = tunnel_device::fresh_mac(own.node, device);
            DataRequest { vni: self.vni, device: known, fresh }
        })
    }
}

/// What the data that a node publishes follow from.
#[derive(Debug, Clone, Copy)]
pub struct OwnState<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The devices that are to carry its pods.
    pub devices: &'a PerFamily<TunnelDevice>,
    /// The links that there are.
    pub links: &'a BTreeMap<IfName, Link>,
    /// What it has published so far.
    pub stored: Option<Advertisement<'a>>,
}

fn device_mac(links: &BTreeMap<IfName, Link>, device: &IfName) -> Option<Mac> {
    let link = links.get(device).filter(|link| matches!(link.tunnel(), Some(Tunnel::Vxlan(_))))?;
    link.mac.filter(|mac| !mac.is_unusable())
}

/// The address that was published for a device. One device may carry both families: then the first one's counts.
fn stored_mac(own: &OwnState<'_>, device: &IfName) -> Option<Mac> {
    let carried = own.devices.iter().filter(|(_, tunnel)| tunnel.device == *device);
    let mut macs = carried.filter_map(|(family, _)| own.stored?.data.get(family)?.mac());
    macs.find(|mac| !mac.is_unusable())
}

/// One VXLAN tunnel of the network; the nodes of a cluster have the same one, but while it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId {
    /// The network identifier.
    pub vni: Vni,
    /// The UDP port.
    pub port: u16,
}

impl TunnelId {
    pub(super) fn parse(mut entry: Object<'_>) -> Result<(Self, PerFamily<Mac>), RecordError> {
        let macs = PerFamily { v4: entry.take("VtepMAC", MAC_EXAMPLE)?, v6: entry.take("VtepV6MAC", MAC_EXAMPLE)? };
        let vni = entry.take("VNI", VNI_RANGE)?.ok_or(RecordError::Missing("VNI"))?;
        let port = entry.take("Port", "a UDP port")?.ok_or(RecordError::Missing("Port"))?;
        Ok((Self { vni, port }, macs))
    }

    /// The hardware address of the peer's end.
    fn peer_mac(self, peer: Advertisement<'_>, family: Family) -> Result<Mac, NoPeerRoute> {
        if let Some(support) = peer.encapsulations {
            let mac = support.receives.get(&Encapsulation::Vxlan(self)).and_then(|macs| macs.get(family));
            return mac.copied().ok_or(NoPeerRoute::NoTunnelEnd(family));
        }
        match peer.data.get(family) {
            Some(BackendData::Vxlan(vtep)) if vtep.vni == self.vni => Ok(vtep.mac),
            Some(BackendData::Vxlan(vtep)) => Err(NoPeerRoute::OtherVni { theirs: vtep.vni, ours: self.vni }),
            _ => Err(NoPeerRoute::NoTunnelEnd(family)),
        }
    }

    /// IPv6 pods have a device of their own, as with flannel, unless IPv4 pods run over the same family of the underlay: the kernel takes
    /// one device per VNI, port and underlay family.
    pub(super) fn devices(
        self,
        conf: &Backend,
        pods: &[Family],
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
        let mut devices: PerFamily<TunnelDevice> = PerFamily::none();
        for &family in pods {
            // The same family where the underlay has it, else the other.
            let own = underlay.addresses.get(family).map(|_| family);
            let over = own.or_else(|| underlay.addresses.families().next());
            let over =
                over.ok_or_else(|| TunnelDeviceError::NoAddress { interface: underlay.ifname.clone(), family })?;
            let shared = family == Family::V6 && devices.v4.as_ref().is_some_and(|v4| v4.underlay == over);
            let device = device_name(if shared { Family::V4 } else { family }, self.vni)?;
            let headers = Headers { kind: "VXLAN", bytes: overhead(over), raise: "Backend.MTU or the interface's MTU" };
            let outer = Options::in_use(conf).mtu.unwrap_or(underlay.mtu);
            let mtu = tunnel_device::mtu(outer, underlay, family, headers)?;
            *devices.slot(family) = Some(TunnelDevice { device, underlay: over, mtu });
        }
        Ok(devices)
    }

    /// Two tunnels with one VNI differ only by their port, which flannel's name does not have.
    pub(super) fn other_name(self, underlay: Family) -> Option<IfName> {
        let family = if underlay == Family::V4 { 4 } else { 6 };
        format!("fl{family}.{:x}.{:x}", self.vni.get(), self.port).parse().ok()
    }

    /// The device of this node.
    pub(super) fn tunnel(self, conf: &Backend, local: Option<IpAddr>, underlay: &Underlay) -> Tunnel {
        let Options { learning, gbp, .. } = Options::in_use(conf);
        let (vni, port, underlay, foreign) = (self.vni, self.port, Some(underlay.index), false);
        Tunnel::Vxlan(Vxlan { vni, local, underlay, port, learning, gbp, foreign })
    }

    /// The peer's end of the tunnel.
    pub(super) fn end(
        self,
        peer: Advertisement<'_>,
        family: Family,
        device: Option<&TunnelDevice>,
    ) -> Result<(IpAddr, Mac), NoPeerRoute> {
        let mac = self.peer_mac(peer, family)?;
        let over = device.ok_or(NoPeerRoute::NoTunnelEnd(family))?.underlay;
        let endpoint = *peer.public.get(over).ok_or(NoPeerRoute::NoPublicAddress(over))?;
        Ok((endpoint, mac))
    }
}

/// Outer Ethernet 14 + IP 20 or 40 + UDP 8 + VXLAN 8 bytes (RFC 7348 section 5).
pub(super) fn overhead(underlay: Family) -> u32 {
    match underlay {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// A route by way of the first address of the subnet, the neighbour that has it, and the tunnel's end behind that neighbour.
pub(super) fn entries(route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries {
    let tunnel =
        route.mac.map(|mac| (((device.clone(), subnet.address()), mac), ((device.clone(), mac), route.endpoint)));
    Entries { tunnel, ..Entries::by(subnet, subnet.address(), device, true) }
}

/// Flannel's names, so that a device of its is adopted.
fn device_name(family: Family, vni: Vni) -> Result<IfName, TunnelDeviceError> {
    let name = match family {
        Family::V4 => format!("flannel.{vni}"),
        Family::V6 => format!("flannel-v6.{vni}"),
    };
    name.parse().map_err(|_| TunnelDeviceError::LongName(vni))
}

/// A node's end of the VXLAN tunnel of one pod family: flannel's `BackendData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Vtep {
    /// The tunnel's network identifier.
    #[serde(rename = "VNI")]
    pub vni: Vni,
    /// The address of the node's VXLAN device.
    #[serde(rename = "VtepMAC")]
    pub mac: Mac,
}

impl Vtep {
    pub(super) fn parse(json: &str) -> Result<Self, RecordError> {
        let mut object: Object<'_> = serde_json::from_str(json)?;
        let vni = object.take("VNI", VNI_RANGE)?.ok_or(RecordError::Missing("VNI"))?;
        let mac = object.take("VtepMAC", MAC_EXAMPLE)?.ok_or(RecordError::Missing("VtepMAC"))?;
        Ok(Self { vni, mac })
    }
}

/// The tunnel end that a node asks to publish. The device's own MAC address goes first, then the one that the lease already has (so
/// that peers need not learn a new one after a reboot), then the fresh one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRequest {
    /// The tunnel's network identifier.
    pub vni: Vni,
    /// The MAC address of the device, where there is a device to keep.
    pub device: Option<Mac>,
    /// A new MAC address, for a node that has none.
    pub fresh: Mac,
}

impl DataRequest {
    /// The data to publish, when the lease so far had `stored`.
    pub fn data(&self, stored: Option<&BackendData>) -> BackendData {
        let usable = |mac: &Mac| !mac.is_unusable();
        let stored = stored.and_then(BackendData::mac).filter(usable);
        let mac = self.device.filter(usable).or(stored).unwrap_or(self.fresh);
        BackendData::Vxlan(Vtep { vni: self.vni, mac })
    }
}
