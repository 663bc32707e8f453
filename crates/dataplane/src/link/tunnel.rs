//! Tunnel devices of every kind that netd makes, behind one type: who makes and compares devices need not know the kind.

use std::mem::discriminant;

use netlink_packet_route::link::InfoKind;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Ipip, Kind, Link, Vxlan, add_vxlan, create, ipip};
use crate::netlink::Request;
use crate::types::{IfName, Mac, Mtu};

/// One end of a tunnel, with what cannot be changed of it without making the device anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel {
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// An IPIP device.
    Ipip(Ipip),
}

impl Tunnel {
    /// True where both are of one kind of device.
    pub fn is_like(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }

    /// True where the kernel takes only one of the two.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Tunnel::Vxlan(one), Tunnel::Vxlan(other)) => one.shares_socket(other),
            (Tunnel::Ipip(one), Tunnel::Ipip(other)) => one.excludes(other),
            _ => false,
        }
    }

    /// The index of the device under the tunnel, where it is bound to one.
    pub fn lower(&self) -> Option<u32> {
        match self {
            Tunnel::Vxlan(vxlan) => vxlan.underlay,
            Tunnel::Ipip(ipip) => ipip.underlay,
        }
    }

    /// The kind of the device, as `ip link` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Tunnel::Vxlan(_) => "vxlan",
            Tunnel::Ipip(_) => "ipip",
        }
    }

    /// The op that makes such a device, in one word for counters.
    pub fn op_kind(&self) -> &'static str {
        match self {
            Tunnel::Vxlan(_) => "add_vxlan",
            Tunnel::Ipip(_) => "add_ipip",
        }
    }

    /// The end of the line for `ip link add`, from the word `type`; `underlay` is the name of the device under the tunnel.
    pub fn ip_link_type(&self, underlay: &IfName) -> String {
        match self {
            Tunnel::Vxlan(vxlan) => vxlan.ip_link_type(underlay),
            Tunnel::Ipip(ipip) => ipip.ip_link_type(),
        }
    }
}

impl Link {
    /// The tunnel that the device is an end of.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        if let Kind::Tunnel(tunnel) = &self.kind { Some(tunnel) } else { None }
    }
}

/// A tunnel device to be made, up from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTunnel<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// What defines it. The device under it goes by its index there.
    pub tunnel: &'a Tunnel,
    /// Its hardware address, set from the start so that no policy of the host changes it; `None` for kinds without one.
    pub mac: Option<Mac>,
    /// MTU in bytes; the kernel silently lowers one that the device under it cannot carry.
    pub mtu: Mtu,
}

/// A request for a device of the tunnel's kind that the kernel refuses in any case, before anything is made: with `EOPNOTSUPP` where it
/// has no such devices.
pub(crate) fn probe(tunnel: &Tunnel) -> Request {
    match tunnel {
        // `vxlan_validate` refuses a request without options.
        Tunnel::Vxlan(_) => {
            create(LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Vxlan).name(PROBE).build())
        }
        Tunnel::Ipip(_) => ipip::probe(PROBE),
    }
}

/// The name in requests that make nothing.
const PROBE: &str = "netd-probe";

/// The request that makes a tunnel device.
pub fn add_tunnel(new: &NewTunnel<'_>) -> Request {
    match new.tunnel {
        Tunnel::Vxlan(vxlan) => add_vxlan(new, vxlan),
        Tunnel::Ipip(ipip) => ipip::add(new.name, new.mtu, ipip),
    }
}
