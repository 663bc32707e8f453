//! `host-gw`: plain routes between nodes on one link. vxlan's `DirectRouting` uses the same routes for on-link peers.
//!
//! Pure.

use std::fmt;
use std::net::IpAddr;

use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix};

use super::{
    Advertisement, Backend, BackendFacts, BackendType, Configured, Encapsulate, Encapsulation, Entries, Entry,
    NoPeerRoute, PeerRoute, TunnelDevice, TunnelDeviceError,
};
use crate::interface::Underlay;
use crate::on_link::OnLink;

/// Plain routes for IPv6 need IPv6 next hops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host-gw cannot carry IPv6 pods over {interface}, which has no IPv6 address: the kernel has no IPv6 route by way of an IPv4 address; give the nodes IPv6 addresses or use vxlan"
)]
pub struct NoIpv6Address {
    /// The interface of the underlay.
    interface: IfName,
}

/// Why no plain route leads to a peer's pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
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

/// Both the backend, which has no options, and the encapsulation.
pub(super) struct PlainRoutes;

impl Configured for PlainRoutes {
    fn kind(&self) -> BackendType {
        BackendType::HostGw
    }

    fn encapsulations(&self) -> Vec<Encapsulation> {
        vec![Encapsulation::Direct]
    }

    fn allows_nat(&self) -> bool {
        false
    }

    fn reason(&self, _is_direct: bool) -> &'static str {
        "backend host-gw"
    }

    fn facts(&self) -> BackendFacts {
        BackendFacts { kind: self.kind().to_string(), ..BackendFacts::default() }
    }
}

impl Encapsulate for PlainRoutes {
    fn entry(&self, _macs: PerFamily<Mac>) -> Entry {
        Entry { kind: "host-gw", ..Entry::default() }
    }

    /// None, but IPv4 can take IPv6 next hops and not the other way round.
    fn tunnel_devices(
        &self,
        _conf: &Backend,
        pods: &[Family],
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
        if pods.contains(&Family::V6) && underlay.addresses.v6.is_none() {
            return Err(NoIpv6Address { interface: underlay.ifname.clone() }.into());
        }
        Ok(PerFamily::none())
    }

    fn route(
        &self,
        peer: Advertisement<'_>,
        family: Family,
        _device: Option<&TunnelDevice>,
        on_link: &OnLink,
    ) -> Result<PeerRoute, NoPeerRoute> {
        let candidates = [Some(family), (family == Family::V4).then_some(Family::V6)];
        let gateways = candidates.into_iter().flatten().filter_map(|family| peer.public.get(family).copied());
        let gateways: Vec<IpAddr> = gateways.collect();
        if let Some(endpoint) = gateways.iter().copied().find(|address| on_link.reaches(*address)) {
            return Ok(PeerRoute { encapsulation: Encapsulation::Direct, endpoint, mac: None });
        }
        if gateways.is_empty() && family == Family::V6 {
            return Err(NoRoute::NoIpv6NextHop.into());
        }
        let addresses = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(NoRoute::NotOnLink { addresses }.into())
    }

    fn entries(&self, route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries {
        Entries::by(subnet, route.endpoint, device, false)
    }
}

impl fmt::Display for PlainRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain routes")
    }
}
