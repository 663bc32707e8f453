//! `host-gw`: plain routes between nodes on one link. vxlan's and ipip's `DirectRouting` use the same routes for on-link peers.
//!
//! Pure. The backend has no options.

use std::net::IpAddr;

use dataplane::types::Family;

use super::{Advertisement, NoPeerRoute, TunnelDeviceError};
use crate::interface::Underlay;
use crate::on_link::OnLink;

/// Checks that plain routes can carry the pods: IPv4 can take IPv6 next hops, and not the other way round.
pub(super) fn check(pods: &[Family], underlay: &Underlay) -> Result<(), TunnelDeviceError> {
    if pods.contains(&Family::V6) && underlay.addresses.v6.is_none() {
        return Err(TunnelDeviceError::NoIpv6Address(underlay.ifname.clone()));
    }
    Ok(())
}

/// The address of a peer that is on this node's link.
pub(super) fn gateway(peer: Advertisement<'_>, family: Family, on_link: &OnLink) -> Result<IpAddr, NoPeerRoute> {
    let families: &[Family] = if family == Family::V4 { &Family::BOTH } else { &[Family::V6] };
    let gateways: Vec<IpAddr> = families.iter().filter_map(|family| peer.public.get(*family).copied()).collect();
    if let Some(gateway) = gateways.iter().find(|address| on_link.reaches(**address)) {
        return Ok(*gateway);
    }
    if gateways.is_empty() && family == Family::V6 {
        return Err(NoPeerRoute::NoIpv6NextHop);
    }
    let addresses = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(NoPeerRoute::NotOnLink(addresses))
}
