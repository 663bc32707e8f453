//! Reverse-path filters (RFC 3704), where they drop what they should not. Pure.
//!
//! The larger of `all` and the device's own counts. 1, strict, drops what comes in by another device than the one that the
//! answer would leave by. That matters only where the two differ, so 1 by itself is no finding.

use std::net::IpAddr;

use dataplane::types::{Family, IfName};
use network::overlay::PROTOCOL;

use super::facts::Facts;
use super::finding::Finding;
use super::sysctl;

const STRICT: u8 = 1;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let underlay = &facts.node.underlay;
    if is_strict(facts, &underlay.ifname) {
        let peers = facts.peers().flat_map(|(name, peer)| peer.public.iter().map(move |(_, address)| (name, *address)));
        let astray = peers.filter_map(|(name, address)| Some((name, address, other_device(facts, address)?)));
        findings.extend(astray.map(|(name, address, device)| {
            let what = format!(
                "its packets come in by {}, answers to {address} leave by {device}: a strict filter drops them",
                underlay.ifname
            );
            Finding::fault(name, what).remedy(loosen(&underlay.ifname))
        }));
    }
    if !facts.outcome.settled {
        let strict = facts.devices().filter(|device| is_strict(facts, device));
        findings.extend(strict.map(|device| {
            let what = "the backend is being changed; until all nodes have, packets come another way than answers go, and a strict filter drops them";
            Finding::fault(device, what).remedy(loosen(device))
        }));
    }
    findings
}

/// True where packets that come in by `device` are filtered strictly.
pub(super) fn is_strict(facts: &Facts, device: &IfName) -> bool {
    let value = |device: &str| facts.sysctl(&sysctl::rp_filter(device)).and_then(|text| text.parse::<u8>().ok());
    value("all").max(value(device.as_str())) == Some(STRICT)
}

pub(super) fn loosen(device: &IfName) -> String {
    sysctl::command(&sysctl::rp_filter(device.as_str()), "2")
}

/// The device that packets to `address` leave by, where it is not the underlay's. IPv6 has no such filter in the kernel.
fn other_device(facts: &Facts, address: IpAddr) -> Option<IfName> {
    if Family::of(address) == Family::V6 {
        return None;
    }
    let routes = facts.kernel.host.routes.iter().filter(|route| route.protocol != PROTOCOL && route.kind.is_unicast());
    let routes = routes.filter(|route| route.destination.contains(address));
    // Equal routes share the packets: any of them may be the one.
    let best = routes.min_by_key(|route| {
        (std::cmp::Reverse(route.destination.len()), route.metric, route.index != facts.node.underlay.index)
    })?;
    if best.index == facts.node.underlay.index { None } else { facts.name_of(best.index).cloned() }
}
