//! Whether each address of the pod network means one thing only. Pure.

use std::collections::BTreeSet;

use dataplane::op::DeviceRoute;
use dataplane::route::Route;
use network::overlay::PROTOCOL;

use super::facts::Facts;
use super::finding::Finding;
use crate::reconcile::problems::MOST;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let rejected = facts
        .rejected
        .iter()
        .take(MOST)
        .map(|peer| Finding::fault(&peer.node, format!("this node is left out of the network: {}", peer.reason)));
    let more = facts.rejected.len().saturating_sub(MOST);
    let more = (more > 0).then(|| Finding::fault("other nodes", format!("{more} more are left out of the network")));
    let (addresses, reported) = addresses(facts);
    rejected.chain(more).chain(addresses).chain(routes(facts, &reported)).collect()
}

/// Addresses of other devices inside the network, and those devices' indexes. The underlay's own among them.
fn addresses(facts: &Facts) -> (Vec<Finding>, BTreeSet<u32>) {
    let mut reported = BTreeSet::new();
    let mut findings = Vec::new();
    for address in &facts.kernel.host.addresses {
        let Some(device) = facts.name_of(address.index) else { continue };
        let networks = &facts.node.identity.networks;
        let inside = |network: &dataplane::types::Prefix| network.contains(address.address);
        let around = address.prefix().and_then(|range| networks.iter().find(|(_, network)| range.overlaps(**network)));
        let Some((_, network)) = around.filter(|_| !facts.is_own(address.index) && *device != facts.node.bridge) else {
            continue;
        };
        if !inside(network) && address.prefix_len <= network.len() {
            // A wider range, such as 10.0.0.0/8: more precise routes go first, and nodes' own addresses are outside.
            continue;
        }
        reported.insert(address.index);
        let (ip, len) = (address.address, address.prefix_len);
        let what =
            format!("its address {ip}/{len} lies inside the pod network {network}: pods there cannot be reached");
        findings.push(Finding::fault(device, what).remedy(format!("ip address delete {ip}/{len} dev {device}")));
    }
    (findings, reported)
}

/// Routes of others into the network, except those of a device whose address is reported already.
fn routes(facts: &Facts, reported: &BTreeSet<u32>) -> Vec<Finding> {
    let (networks, wanted) = (&facts.node.identity.networks, &facts.outcome.desired.routes);
    // One that leads nowhere does harm where it goes before one of netd's, and is often meant as a last resort.
    let does_harm = |route: &Route| {
        let goes_before = |ours: &DeviceRoute| {
            let is_same = ours.destination == route.destination;
            ours.kind.is_unicast()
                && ours.destination.covers(route.destination)
                && (!is_same || route.metric < ours.metric)
        };
        route.kind.is_unicast() || wanted.values().any(goes_before)
    };
    let foreign = facts.kernel.host.routes.iter().filter(|route| {
        route.protocol != PROTOCOL
            && !facts.is_own(route.index)
            && !reported.contains(&route.index)
            && facts.name_of(route.index).is_some_and(|device| *device != facts.node.bridge)
            && networks.iter().any(|(_, network)| network.covers(route.destination))
            // Another check reports a route with the same metric, as a conflict.
            && wanted.get(&route.destination).is_none_or(|ours| ours.metric != route.metric)
            && does_harm(route)
    });
    foreign
        .map(|route| {
            if !route.kind.is_unicast() {
                let (kind, range, metric) = (route.kind.word(), route.destination, route.metric);
                let what = format!("a {kind} route that is not netd's lets no packet through to pods there");
                return Finding::fault(range, what).remedy(format!("ip route delete {kind} {range} metric {metric}"));
            }
            let device = facts.name_of(route.index).map_or_else(String::new, ToString::to_string);
            let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let what = format!("a route that is not netd's takes packets for pods there to {device}{via}");
            let command = format!("ip route delete {}{via} dev {device} metric {}", route.destination, route.metric);
            Finding::fault(route.destination, what).remedy(command)
        })
        .collect()
}
