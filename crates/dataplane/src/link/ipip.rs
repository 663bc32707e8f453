//! IPIP devices, `ip link add ... type ipip`: IPv4 packets inside IPv4 packets (RFC 2003).

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{InfoData, InfoIpTunnel, InfoKind, LinkMessage, TunnelEncapType};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::create;
use crate::netlink::Request;
use crate::types::{IfName, Mtu};

/// What cannot be changed of an IPIP device without making it anew. The outer packet takes its TTL and its "do not fragment" from the
/// inner one (`ttl inherit nopmtudisc`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipip {
    /// The source address of the tunnel's packets; the device receives what is sent to it. The kernel's `tunl0` has none.
    pub local: Option<Ipv4Addr>,
    /// The only peer; without one, the next hop of each route is the peer.
    pub remote: Option<Ipv4Addr>,
    /// The index of the device under it; without one, packets follow the routes to the peer.
    pub underlay: Option<u32>,
    /// Has a TTL of its own, path MTU discovery, another protocol inside or headers around: never in ours.
    pub foreign: bool,
}

impl Ipip {
    /// True where the kernel takes only one of the two (`ip_tunnel_find`).
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let key = |ipip: &Self| (ipip.local, ipip.remote, ipip.underlay);
        key(self) == key(other)
    }

    pub(super) fn ip_link_type(&self) -> String {
        let address = |word, address: Option<Ipv4Addr>| address.map(|to| format!(" {word} {to}")).unwrap_or_default();
        format!("type ipip{}{} ttl inherit nopmtudisc", address("local", self.local), address("remote", self.remote))
    }
}

/// A protocol that no IPIP device carries.
const NO_PROTOCOL: IpProtocol = IpProtocol::Tcp;

pub(super) fn read(data: &[InfoIpTunnel]) -> Ipip {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) if !address.is_unspecified() => Some(*address),
        _ => None,
    };
    let mut ipip = Ipip { local: None, remote: None, underlay: None, foreign: false };
    for info in data {
        match info {
            InfoIpTunnel::Local(address) => ipip.local = v4(address),
            InfoIpTunnel::Remote(address) => ipip.remote = v4(address),
            InfoIpTunnel::Link(index) => ipip.underlay = Some(*index).filter(|index| *index != 0),
            InfoIpTunnel::Ttl(ttl) => ipip.foreign |= *ttl != 0,
            InfoIpTunnel::PMtuDisc(on) => ipip.foreign |= *on,
            InfoIpTunnel::Protocol(protocol) => ipip.foreign |= *protocol != IpProtocol::Ipip,
            InfoIpTunnel::EncapType(around) => ipip.foreign |= *around != TunnelEncapType::None,
            InfoIpTunnel::CollectMetadata => ipip.foreign = true,
            _ => {}
        }
    }
    ipip
}

pub(super) fn add(name: &IfName, mtu: Mtu, ipip: &Ipip) -> Request {
    create(message(name, mtu, ipip))
}

fn message(name: &IfName, mtu: Mtu, ipip: &Ipip) -> LinkMessage {
    let mut data = vec![InfoIpTunnel::Ttl(0), InfoIpTunnel::PMtuDisc(false)];
    data.extend(ipip.local.map(|local| InfoIpTunnel::Local(local.into())));
    data.extend(ipip.remote.map(|remote| InfoIpTunnel::Remote(remote.into())));
    data.extend(ipip.underlay.map(InfoIpTunnel::Link));
    let builder = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::IpIp).name(name.as_str());
    builder.set_info_data(InfoData::IpTunnel(data)).mtu(mtu.get()).up().build()
}

/// The request that the kernel refuses in any case, with `EOPNOTSUPP` where it has no such devices: `ipip_tunnel_validate` takes no such
/// protocol, and looks before anything is made.
pub(super) fn probe(name: &str) -> Request {
    let builder = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::IpIp).name(name);
    create(builder.set_info_data(InfoData::IpTunnel(vec![InfoIpTunnel::Protocol(NO_PROTOCOL)])).build())
}

#[cfg(test)]
mod tests;
