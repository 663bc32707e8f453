//! Reads the host's links, addresses and routes, from which [`network::interface`] chooses the interface.

use std::net::IpAddr;

use dataplane::kernel::{Kernel, Linux};
use dataplane::netlink::KernelError;
use dataplane::types::{Family, Mtu, PerFamily};
use network::interface::{HostFacts, LinkFacts, RouteLookup};

/// Reads the facts for the choice. `can_reach` is the address of `--iface-can-reach`.
pub fn facts(kernel: &mut Linux, can_reach: Option<IpAddr>) -> Result<HostFacts, KernelError> {
    let addresses = kernel.addresses()?;
    let mut links = Vec::new();
    for link in kernel.links()? {
        // An MTU out of range, such as loopback's: the link cannot be the underlay.
        let Ok(mtu) = Mtu::try_from(i64::from(link.mtu)) else { continue };
        let of_link = addresses.iter().filter(|address| address.index == link.index);
        let addresses = of_link.copied().collect();
        links.push(LinkFacts { name: link.name, index: link.index, mtu, up: link.up, addresses });
    }
    let mut default_routes = PerFamily::none();
    for family in Family::BOTH {
        let defaults = kernel
            .routes(family)?
            .into_iter()
            .filter(|route| route.kind.is_unicast() && route.destination.is_default());
        *default_routes.slot(family) = defaults.min_by_key(|route| route.metric).map(|route| route.index);
    }
    let lookup = match can_reach {
        Some(target) => kernel.socket().route_to(target)?.map(|(source, index)| RouteLookup { index, source }),
        None => None,
    };
    Ok(HostFacts { links, default_routes, lookup })
}
