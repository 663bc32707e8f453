//! The facts about the host's links, addresses and routes from which [`network::interface`] chooses the interface.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::kernel::{Kernel, Linux};
use dataplane::link::Link;
use dataplane::netlink::KernelError;
use dataplane::types::{Family, IfName, Mtu, PerFamily, Prefix};
use netd_cni::attachment::Attachment;
use network::interface::{DefaultRoute, HostFacts, LinkFacts, RouteLookup};
use network::net_conf::NetConf;
use network::observe::Host;
use network::overlay::PROTOCOL;

use crate::config::UnderlayConfig;
use crate::conflist::NETWORK;

/// The facts for the choice, on a host whose pods' bridge has this name. Beside `host`, it reads what a flag asks
/// for: alternative names, and the route to the address of `--iface-can-reach`.
pub fn facts(
    kernel: &mut Linux,
    host: &Host,
    config: &UnderlayConfig,
    bridge: &IfName,
) -> Result<HostFacts, KernelError> {
    let (mut links, mut carriers) = (Vec::new(), BTreeMap::new());
    let own = own_devices(host.links.values(), bridge);
    let names_interfaces = !config.ifaces.is_empty() || !config.regexes.is_empty();
    let alternative_names = if names_interfaces { kernel.socket().alternative_names()? } else { Vec::new() };
    let mut by_index: Vec<_> = host.links.values().filter(|link| !own.contains(&link.index)).collect();
    by_index.sort_by_key(|link| link.index);
    for link in by_index {
        // An MTU out of range, such as loopback's: the link cannot be the underlay.
        let Ok(mtu) = Mtu::try_from(i64::from(link.mtu)) else { continue };
        let of_link = host.addresses.iter().filter(|address| address.index == link.index);
        let addresses = of_link.copied().collect();
        let names = alternative_names.iter().filter(|(index, _)| *index == link.index);
        carriers.insert(link.index, link.carrier);
        links.push(LinkFacts {
            name: link.name.clone(),
            alternative_names: names.map(|(_, name)| name.clone()).collect(),
            index: link.index,
            mtu,
            up: link.up,
            addresses,
        });
    }
    let default_routes = PerFamily::from_fn(|family| {
        let of_family = host.default_routes.iter().filter(|(route, _)| route.destination.family() == family);
        let usable = of_family.filter(|(route, _)| route.kind.is_unicast() && carriers.contains_key(&route.index));
        let (route, source) = usable.min_by_key(|(route, _)| (!carriers[&route.index], route.metric))?;
        Some(DefaultRoute { index: route.index, gateway: route.gateway, source: *source })
    });
    let lookup = match config.can_reach {
        Some(target) => kernel.socket().route_to(target)?.map(|(source, index)| RouteLookup { index, source }),
        None => None,
    };
    Ok(HostFacts { links, default_routes, lookup })
}

/// The ranges inside the pods' networks that other devices have by their addresses or by routes of others. A wider range does no harm, since
/// more precise routes go first.
pub fn ranges(kernel: &mut Linux, conf: &NetConf, bridge: &IfName) -> Result<Vec<Prefix>, KernelError> {
    let own = own_devices(kernel.links()?.iter(), bridge);
    let addresses = kernel.addresses()?.into_iter().filter(|address| !own.contains(&address.index));
    let mut ranges: Vec<_> = addresses.filter_map(|address| address.prefix()).collect();
    for family in Family::BOTH {
        let routes = kernel.routes(family)?.into_iter();
        let of_others = routes.filter(|route| route.protocol != PROTOCOL && !own.contains(&route.index));
        ranges.extend(of_others.map(|route| route.destination));
    }
    let networks = conf.prefixes();
    ranges.retain(|range| networks.iter().any(|(_, network)| network.covers(*range) && network != range));
    Ok(ranges)
}

/// The indexes of the tunnels of netd and flannel, of the pods' bridge and of all its ports. They are never the interface between nodes.
pub fn own_devices<'a>(links: impl Iterator<Item = &'a Link> + Clone, bridge: &IfName) -> BTreeSet<u32> {
    let of_pod = |link: &&Link| {
        let attachment = link.alias.as_deref().and_then(Attachment::from_alias);
        attachment.is_some_and(|of| of.network.as_str() == NETWORK && of.host_veth() == link.name)
    };
    let ports = links.clone().filter(of_pod);
    let of_name = links.clone().filter(|link| link.name == *bridge).map(|link| link.index);
    let bridges: BTreeSet<u32> = ports.clone().filter_map(|port| port.master).chain(of_name).collect();
    let is_marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with("netd"));
    let is_tunnel =
        |link: &&Link| link.tunnel().is_some() && (is_marked(link) || link.name.as_str().starts_with("flannel"));
    let on_bridge = links.clone().filter(|link| link.master.is_some_and(|master| bridges.contains(&master)));
    let own = ports.chain(on_bridge).chain(links.filter(is_tunnel)).map(|link| link.index);
    own.chain(bridges.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
