//! Tunnel devices of every kind that netd makes, behind one type: who makes and compares devices need not know the kind.

use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{InfoData, InfoIpTunnel, InfoKind, LinkAttribute};

use super::{Ipip, Kind, Link, Vxlan, create, hardware_address};
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
    /// The UDP port of its packets, and the address that they leave from; `None` for kinds without ports.
    pub fn udp(&self) -> Option<(u16, Option<std::net::IpAddr>)> {
        match self {
            Self::Vxlan(vxlan) => Some((vxlan.port, vxlan.local)),
            Self::Ipip(_) => None,
        }
    }

    /// True where both are of one kind of device.
    pub fn is_like(&self, other: &Self) -> bool {
        self.kind() == other.kind()
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

/// A request for a device of the tunnel's kind that the kernel refuses in any case, before anything is made: with `EOPNOTSUPP` where it
/// has no such devices.
pub(crate) fn probe(tunnel: &Tunnel) -> Request {
    let (kind, data) = match tunnel {
        // `vxlan_validate` refuses a request without options.
        Tunnel::Vxlan(_) => (InfoKind::Vxlan, None),
        // `ipip_tunnel_validate` refuses another protocol inside.
        Tunnel::Ipip(_) => (InfoKind::IpIp, Some(InfoData::IpTunnel(vec![InfoIpTunnel::Protocol(IpProtocol::Tcp)]))),
    };
    create("netd-probe", kind, data, [])
}

/// The request that makes a tunnel device, up from the start.
///
/// The hardware address is set from the start so that no policy of the host changes it; `None` for kinds without one. The kernel silently
/// lowers an MTU that the device under the tunnel cannot carry.
pub fn add_tunnel(name: &IfName, tunnel: &Tunnel, mac: Option<Mac>, mtu: Mtu) -> Request {
    let (kind, data) = match tunnel {
        Tunnel::Vxlan(vxlan) => (InfoKind::Vxlan, InfoData::Vxlan(vxlan.data())),
        Tunnel::Ipip(ipip) => (InfoKind::IpIp, InfoData::IpTunnel(ipip.data())),
    };
    create(name.as_str(), kind, Some(data), [Some(LinkAttribute::Mtu(mtu.get())), mac.map(hardware_address)])
}
