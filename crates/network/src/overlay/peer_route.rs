//! Which way packets to a peer's pods take: through the tunnel, along a plain route, or none.
//!
//! Pure. Whether a peer is on-link follows from the routes that were observed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::route::Route;
use dataplane::types::{Family, Mac, PerFamily, Vni};

use super::PROTOCOL;
use super::tunnel_device::TunnelDevice;
use crate::model::{BackendType, Encapsulation, EncapsulationSupport, Lease, TunnelId};
use crate::net_conf::NetConf;

/// The way to a peer's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRoute {
    /// Through a VXLAN tunnel to this address of the underlay.
    Tunnel {
        /// Which tunnel.
        tunnel: TunnelId,
        /// The peer's tunnel end.
        endpoint: IpAddr,
        /// The hardware address behind it.
        mac: Mac,
    },
    /// Along a plain route.
    Direct {
        /// The peer's address on the shared link.
        gateway: IpAddr,
    },
}

impl PeerRoute {
    /// In what encapsulation packets travel that way.
    pub fn encapsulation(&self) -> Encapsulation {
        match self {
            PeerRoute::Tunnel { tunnel, .. } => Encapsulation::Tunnel(*tunnel),
            PeerRoute::Direct { .. } => Encapsulation::Direct,
        }
    }
}

/// Why there is no way to a peer's pods of a family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPeerRoute {
    /// The peer carries packets in another encapsulation.
    #[error("it runs backend {theirs}, this node {ours}: set one Backend.Type for all nodes")]
    OtherBackend {
        /// The peer's backend.
        theirs: BackendType,
        /// Ours.
        ours: BackendType,
    },
    /// The peer has not told its tunnel end.
    #[error("it has published no VXLAN device for {family} pods")]
    NoTunnelEnd {
        /// The pods' family.
        family: Family,
    },
    /// The tunnels do not belong together.
    #[error("its VNI is {theirs}, this node's {ours}: set one VNI for all nodes")]
    OtherVni {
        /// The peer's.
        theirs: Vni,
        /// Ours.
        ours: Vni,
    },
    /// The peer has said what it receives, and this is not in it.
    #[error(
        "it does not receive by {encapsulation}, and this node sends by nothing that it receives: set one Backend for all nodes"
    )]
    NotReceived {
        /// What this node would send by.
        encapsulation: Encapsulation,
    },
    /// This node has not published yet that it sends by this.
    #[error("this node has not published yet that it sends by {encapsulation}")]
    NotPublished {
        /// What this node would send by.
        encapsulation: Encapsulation,
    },
    /// The peer has no address of the tunnel's family.
    #[error("it has published no {family} address, which this node's tunnel needs")]
    NoPublicAddress {
        /// The underlay's family.
        family: Family,
    },
    /// Plain routes need a link that both are on.
    #[error("no address of it is on-link ({addresses}) and host-gw needs that: put both on one segment or use vxlan")]
    NotOnLink {
        /// What was tried.
        addresses: String,
    },
    /// The kernel routes IPv4 over an IPv6 next hop, but not the other way round.
    #[error(
        "IPv6 pods cannot be reached over its IPv4 address with plain routes: give nodes IPv6 addresses or use vxlan"
    )]
    NoIpv6NextHop,
}

impl NoPeerRoute {
    /// True for what ends by itself when every node has changed its backend.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotReceived { .. } | Self::NotPublished { .. })
    }
}

/// What can be reached on the underlay's link itself.
#[derive(Debug, Clone)]
pub struct OnLink {
    /// Routes of others, the longest prefix first and the lowest metric first within a length.
    routes: Vec<Route>,
    underlay: u32,
}

impl OnLink {
    /// From all routes of the main table and the index of the underlay's interface.
    pub fn new(routes: &[Route], underlay: u32) -> Self {
        let mut routes: Vec<_> = routes.iter().filter(|route| route.protocol != PROTOCOL).copied().collect();
        routes.sort_by_key(|route| (std::cmp::Reverse(route.destination.len()), route.metric));
        Self { routes, underlay }
    }

    /// True where the best route to `address` leads out of the underlay's interface without a gateway.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let best = self.routes.iter().find(|route| route.destination.contains(address));
        best.is_some_and(|route| route.gateway.is_none() && route.index == self.underlay)
    }
}

/// The tunnels that this node has or can have, with what carries each family's pods.
pub type Tunnels = BTreeMap<TunnelId, PerFamily<TunnelDevice>>;

/// Chooses the way to the pods of one family behind a peer: the first encapsulation of this node's configuration that the peer
/// receives, else any that both know. A peer that does not say what it receives has to be configured as this node is.
/// With the way goes why it is none of the configuration's, where it is not. Only encapsulations are chosen for which `may_send` is true.
pub fn to(
    conf: &NetConf,
    tunnels: &Tunnels,
    peer: &Lease,
    family: Family,
    on_link: &OnLink,
    may_send: impl Fn(&Encapsulation) -> bool,
) -> Result<(PeerRoute, Option<NoPeerRoute>), NoPeerRoute> {
    let configured = conf.backend.encapsulations();
    let mut reason = None;
    let others = peer
        .ways
        .iter()
        .flat_map(EncapsulationSupport::receives)
        .filter(|encapsulation| !configured.contains(encapsulation));
    for encapsulation in configured.iter().copied().chain(others) {
        let route = if may_send(&encapsulation) {
            by(encapsulation, conf, tunnels, peer, family, on_link)
        } else {
            Err(NoPeerRoute::NotPublished { encapsulation })
        };
        match route {
            Ok(way) if configured.contains(&encapsulation) => return Ok((way, None)),
            Ok(way) => return Ok((way, reason)),
            // The last one of the configuration tells the most: DirectRouting is never meant for all.
            Err(why) if configured.contains(&encapsulation) => reason = Some(why),
            Err(_) => {}
        }
    }
    Err(reason.unwrap_or(NoPeerRoute::NoTunnelEnd { family }))
}

fn by(
    encapsulation: Encapsulation,
    conf: &NetConf,
    tunnels: &Tunnels,
    peer: &Lease,
    family: Family,
    on_link: &OnLink,
) -> Result<PeerRoute, NoPeerRoute> {
    let ours = conf.backend.kind();
    match &peer.ways {
        Some(ways) if !ways.receives().contains(&encapsulation) => {
            return Err(NoPeerRoute::NotReceived { encapsulation });
        }
        None if peer.backend != ours => return Err(NoPeerRoute::OtherBackend { theirs: peer.backend.clone(), ours }),
        _ => {}
    }
    match encapsulation {
        Encapsulation::Direct => direct(peer, family, on_link),
        Encapsulation::Tunnel(tunnel) => {
            let mac = tunnel_end(peer, tunnel, family)?;
            let tunnel_device = tunnels.get(&tunnel).and_then(|tunnel_devices| tunnel_devices.get(family));
            let over = tunnel_device.ok_or(NoPeerRoute::NoTunnelEnd { family })?.underlay;
            let endpoint = *peer.public.get(over).ok_or(NoPeerRoute::NoPublicAddress { family: over })?;
            Ok(PeerRoute::Tunnel { tunnel, endpoint, mac })
        }
    }
}

/// The hardware address of the peer's end.
fn tunnel_end(peer: &Lease, tunnel: TunnelId, family: Family) -> Result<Mac, NoPeerRoute> {
    if let Some(ways) = &peer.ways {
        let mac = ways.tunnels.get(&tunnel).and_then(|macs| macs.get(family));
        return mac.copied().ok_or(NoPeerRoute::NoTunnelEnd { family });
    }
    let vtep = peer.vteps.get(family).ok_or(NoPeerRoute::NoTunnelEnd { family })?;
    if vtep.vni == tunnel.vni {
        Ok(vtep.mac)
    } else {
        Err(NoPeerRoute::OtherVni { theirs: vtep.vni, ours: tunnel.vni })
    }
}

fn direct(peer: &Lease, family: Family, on_link: &OnLink) -> Result<PeerRoute, NoPeerRoute> {
    let candidates = [Some(family), (family == Family::V4).then_some(Family::V6)];
    let gateways = candidates.into_iter().flatten().filter_map(|family| peer.public.get(family).copied());
    let gateways: Vec<IpAddr> = gateways.collect();
    if let Some(gateway) = gateways.iter().copied().find(|address| on_link.reaches(*address)) {
        return Ok(PeerRoute::Direct { gateway });
    }
    if gateways.is_empty() && family == Family::V6 {
        return Err(NoPeerRoute::NoIpv6NextHop);
    }
    let addresses = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(NoPeerRoute::NotOnLink { addresses })
}
