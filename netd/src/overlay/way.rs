//! Which way packets to a peer's pods take: through the tunnel, along a plain route, or none.
//!
//! Pure. Whether a peer is on-link follows from the routes that were observed.

use std::net::IpAddr;

use dataplane::route::Route;
use dataplane::words::{Family, PerFamily, Vni};

use super::PROTOCOL;
use super::carrier::Carrier;
use crate::config::net_conf::{Backend, NetConf};
use crate::model::{BackendType, Lease};

/// The way to a peer's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Through the VXLAN tunnel to this address of the underlay.
    Tunnel {
        /// The peer's tunnel end.
        endpoint: IpAddr,
    },
    /// Along a plain route.
    Direct {
        /// The peer's address on the shared link.
        gateway: IpAddr,
    },
}

/// Why there is no way to a peer's pods of a family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// The peer carries packets in another manner.
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

/// Chooses the way to the pods of one family behind a peer.
pub fn to(
    conf: &NetConf,
    carriers: &PerFamily<Carrier>,
    peer: &Lease,
    family: Family,
    on_link: &OnLink,
) -> Result<Way, NoWay> {
    let ours = conf.backend.kind();
    if peer.backend != ours {
        return Err(NoWay::OtherBackend { theirs: peer.backend.clone(), ours });
    }
    match &conf.backend {
        Backend::HostGw => direct(peer, family, on_link),
        Backend::Vxlan(options) => {
            if options.direct_routing
                && let Ok(way) = direct(peer, family, on_link)
            {
                return Ok(way);
            }
            let vtep = peer.vteps.get(family).ok_or(NoWay::NoTunnelEnd { family })?;
            if vtep.vni != options.vni {
                return Err(NoWay::OtherVni { theirs: vtep.vni, ours: options.vni });
            }
            let carrier = carriers.get(family).ok_or(NoWay::NoTunnelEnd { family })?;
            let over = carrier.underlay;
            let endpoint = peer.public.get(over).ok_or(NoWay::NoPublicAddress { family: over })?;
            Ok(Way::Tunnel { endpoint: *endpoint })
        }
    }
}

fn direct(peer: &Lease, family: Family, on_link: &OnLink) -> Result<Way, NoWay> {
    let candidates = [Some(family), (family == Family::V4).then_some(Family::V6)];
    let gateways = candidates.into_iter().flatten().filter_map(|family| peer.public.get(family).copied());
    let gateways: Vec<IpAddr> = gateways.collect();
    if let Some(gateway) = gateways.iter().copied().find(|address| on_link.reaches(*address)) {
        return Ok(Way::Direct { gateway });
    }
    if gateways.is_empty() && family == Family::V6 {
        return Err(NoWay::NoIpv6NextHop);
    }
    let addresses = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(NoWay::NotOnLink { addresses })
}
