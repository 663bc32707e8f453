//! IPIP devices, `ip link add ... type ipip`: IPv4 packets inside IPv4 packets (RFC 2003).

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{InfoIpTunnel, TunnelEncapType};

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

    pub(super) fn read(data: &[InfoIpTunnel]) -> Self {
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(address) if !address.is_unspecified() => Some(*address),
            _ => None,
        };
        let mut ipip = Self { local: None, remote: None, underlay: None, foreign: false };
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

    pub(super) fn data(&self) -> Vec<InfoIpTunnel> {
        let mut data = vec![InfoIpTunnel::Ttl(0), InfoIpTunnel::PMtuDisc(false)];
        data.extend(self.local.map(|local| InfoIpTunnel::Local(local.into())));
        data.extend(self.remote.map(|remote| InfoIpTunnel::Remote(remote.into())));
        data.extend(self.underlay.map(InfoIpTunnel::Link));
        data
    }
}

#[cfg(test)]
mod tests;
