//! Whether each address of the pod network means one thing only. Pure.

use std::collections::BTreeSet;

use super::facts::{BRIDGE, Facts};
use super::{Check, Trouble};
use crate::overlay::PROTOCOL;

pub(super) const CHECK: Check =
    Check { name: "subnets", well: "the pod network overlaps nothing else, and no two nodes' subnets do", judge };

fn judge(facts: &Facts) -> Vec<Trouble> {
    let rejected = facts
        .rejected
        .iter()
        .map(|peer| Trouble::fault(&peer.node, format!("this node is left out of the network: {}", peer.reason)));
    let (addresses, told) = addresses(facts);
    rejected.chain(addresses).chain(routes(facts, &told)).collect()
}

/// Addresses of other devices inside the network, and those devices' indexes. The underlay's own among them.
fn addresses(facts: &Facts) -> (Vec<Trouble>, BTreeSet<u32>) {
    let mut told = BTreeSet::new();
    let mut troubles = Vec::new();
    for address in &facts.addresses {
        let Some(device) = facts.name_of(address.index) else { continue };
        let networks = &facts.node.identity.networks;
        let inside = |network: &dataplane::words::Prefix| network.contains(address.address);
        let around = address.prefix().and_then(|range| networks.iter().find(|(_, network)| range.overlaps(**network)));
        let Some((_, network)) = around.filter(|_| !facts.is_own(address.index) && device.as_str() != BRIDGE) else {
            continue;
        };
        if !inside(network) && address.prefix_len <= network.len() {
            // A wider range, such as 10.0.0.0/8: more precise routes go first, and nodes' own addresses are outside.
            continue;
        }
        told.insert(address.index);
        let (ip, len) = (address.address, address.prefix_len);
        let what =
            format!("its address {ip}/{len} lies inside the pod network {network}: pods there cannot be reached");
        troubles.push(Trouble::fault(device, what).remedy(format!("ip address delete {ip}/{len} dev {device}")));
    }
    (troubles, told)
}

/// Routes of others into the network, except those that come with an address that was told.
fn routes(facts: &Facts, told: &BTreeSet<u32>) -> Vec<Trouble> {
    let (networks, wanted) = (&facts.node.identity.networks, &facts.outcome.desired.routes);
    let foreign = facts.host.routes.iter().filter(|route| {
        route.protocol != PROTOCOL
            && !facts.is_own(route.index)
            && !told.contains(&route.index)
            && facts.name_of(route.index).is_some_and(|device| device.as_str() != BRIDGE)
            && networks.iter().any(|(_, network)| network.covers(route.destination))
            // Told as what stands in netd's way.
            && wanted.get(&route.destination).is_none_or(|ours| ours.metric != route.metric)
    });
    foreign
        .map(|route| {
            let device = facts.name_of(route.index).map_or_else(String::new, ToString::to_string);
            let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let what = format!("a route that is not netd's takes packets for pods there to {device}{via}");
            let command = format!("ip route delete {}{via} dev {device} metric {}", route.destination, route.metric);
            Trouble::fault(route.destination, what).remedy(command)
        })
        .collect()
}
