//! Dumps of the kernel's state, by the names that plans use.
//!
//! Reads, never changes.

mod deviations;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::address::Address;
use dataplane::kernel::Kernel;
use dataplane::link::Link;
use dataplane::netlink::KernelError;
use dataplane::nft::{BaseChainFacts, Operation, RuleWithHandle, TableId};
use dataplane::op::{DeviceAddress, DeviceRoute};
use dataplane::route::Route;
use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix};

use crate::backend::{Backend, Encapsulation};
use crate::chain;
use crate::flannel;
use crate::interface::Underlay;
use crate::overlay::bridge::serves;
use crate::overlay::forward::{Accept, Others};
use crate::overlay::transition::reverse_path_key;
use crate::overlay::{Desired, Identity, forward};

/// The state of the host from which the desired state follows: read first.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Every link by name.
    pub links: BTreeMap<IfName, Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// Every route of the main table.
    pub routes: Vec<Route>,
    /// The default routes among them, each with the source address that it prefers.
    pub default_routes: Vec<(Route, Option<IpAddr>)>,
    /// The chains that the kernel calls itself.
    pub base_chains: Vec<BaseChainFacts>,
    /// What others' rules do with forwarded packets.
    pub others: Others,
}

/// Objects that can be ours, or that stand in the place of a desired one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Every link by name.
    pub links: BTreeMap<IfName, Link>,
    /// Global addresses on our devices.
    pub addresses: BTreeSet<DeviceAddress>,
    /// Permanent neighbour entries on our devices.
    pub neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    /// Permanent forwarding entries of our devices.
    pub fdb: BTreeSet<(IfName, Mac, IpAddr)>,
    /// Every route of the main table whose link is known.
    pub routes: BTreeSet<DeviceRoute>,
    /// The desired sysctls, where they exist.
    pub sysctls: BTreeMap<String, String>,
    /// Our nftables table.
    pub table: Option<dataplane::nft::Table>,
    /// Rules of ours in chains of others, with the handles by which the kernel deletes them.
    pub accepts: Vec<(Accept, u64)>,
    /// Changes that remove the rules that flannel has left about our networks.
    pub leftovers: Vec<Operation>,
}

/// Reads the state from which the desired state follows.
pub fn host(kernel: &mut impl Kernel, identity: &Identity) -> Result<Host, KernelError> {
    let host = links_and_routes(kernel)?;
    let base_chains = kernel.base_chains()?;
    let others = others(kernel, &base_chains, &identity.table())?;
    Ok(Host { base_chains, others, ..host })
}

/// Reads the host's links, addresses and routes. Its chains are left empty: no plan can be made of it.
pub fn links_and_routes(kernel: &mut impl Kernel) -> Result<Host, KernelError> {
    let links = kernel.links()?.into_iter().map(|link| (link.name.clone(), link)).collect();
    let mut host = Host { links, addresses: kernel.addresses()?, ..Host::default() };
    for family in Family::BOTH {
        for (route, source) in kernel.routes_with_sources(family)? {
            if route.destination.is_default() {
                host.default_routes.push((route, source));
            }
            host.routes.push(route);
        }
    }
    Ok(host)
}

fn others(kernel: &mut impl Kernel, chains: &[BaseChainFacts], own: &TableId) -> Result<Others, KernelError> {
    let mut others = Others::default();
    for facts in chains {
        for chain in forward::to_read(facts, own) {
            let rules = kernel.rules(&facts.table, &chain)?.into_iter().map(|placed| placed.rule).collect();
            others.rules.insert((facts.table.clone(), chain), rules);
        }
    }
    others.legacy = PerFamily::from_fn(|family| {
        kernel.legacy_forward(family).unwrap_or_else(|error| {
            // No change depends on iptables-legacy: without it, only a report of what it blocks is missing.
            tracing::debug!("{}", chain(&error));
            None
        })
    });
    Ok(others)
}

/// Asks for which of the tunnels `wanted` the kernel has no devices, and gives the kind of each. A device of the kind among `links` is an
/// answer too.
pub fn unsupported(
    kernel: &mut impl Kernel,
    links: &BTreeMap<IfName, Link>,
    backend: &Backend,
    underlay: &Underlay,
    wanted: impl IntoIterator<Item = Encapsulation>,
) -> Result<BTreeMap<Encapsulation, &'static str>, KernelError> {
    let local = underlay.addresses.iter().next().map(|(_, address)| *address);
    let mut unsupported = BTreeMap::new();
    for encapsulation in wanted {
        let Some(tunnel) = encapsulation.tunnel(backend, local, underlay) else { continue };
        let is_there = links.values().filter_map(Link::tunnel).any(|other| other.is_like(&tunnel));
        if !is_there && !kernel.has_kind(&tunnel)? {
            unsupported.insert(encapsulation, tunnel.kind());
        }
    }
    Ok(unsupported)
}

/// Reads the reverse-path filters that packets between nodes meet, by sysctl.
pub fn reverse_path(kernel: &mut impl Kernel, host: &Host, underlay: &IfName) -> BTreeMap<String, String> {
    let tunnels = host.links.values().filter(|link| link.tunnel().is_some()).map(|link| link.name.as_str());
    let keys = tunnels.chain(["all", "default", underlay.as_str()]).map(reverse_path_key);
    // A link that was deleted meanwhile has none.
    keys.filter_map(|key| Some((key.clone(), kernel.sysctl(&key).ok()?))).collect()
}

/// Where packets to each range go by now: the range with the end of the tunnel, or with the next hop.
pub fn endpoints(kernel: &mut impl Kernel) -> Result<BTreeSet<(Prefix, IpAddr)>, KernelError> {
    let (mut macs, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for index in kernel.links()?.iter().filter(|link| link.tunnel().is_some()).map(|link| link.index) {
        for family in Family::BOTH {
            let entries = kernel.neighbours(index, family)?.into_iter();
            macs.extend(entries.filter_map(|entry| Some(((index, entry.address), entry.mac?))));
        }
        ends.extend(kernel.fdb(index)?.into_iter().map(|entry| ((index, entry.mac), entry.destination)));
    }
    let mut endpoints = BTreeSet::new();
    for family in Family::BOTH {
        for route in kernel.routes(family)? {
            let Some(gateway) = route.gateway else { continue };
            let end = macs.get(&(route.index, gateway)).and_then(|mac| ends.get(&(route.index, *mac)));
            endpoints.insert((route.destination, *end.unwrap_or(&gateway)));
        }
    }
    Ok(endpoints)
}

/// The tunnel devices that bear our mark.
pub fn our_devices<'h>(host: &'h Host, identity: &'h Identity) -> impl Iterator<Item = &'h Link> {
    host.links.values().filter(|link| identity.owns(link))
}

/// State without notifications, or with notifications that do not say all: sysctls, and what others' rules do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolledState {
    /// Sysctls by key.
    pub sysctls: BTreeMap<String, Option<String>>,
    base_chains: Vec<BaseChainFacts>,
    others: Others,
}

/// Reads the polled state from which `desired` follows, or which is part of it.
pub fn polled_state(
    kernel: &mut impl Kernel,
    identity: &Identity,
    desired: &Desired,
    underlay: &IfName,
) -> Result<PolledState, KernelError> {
    let sysctls = sysctls(kernel, desired, underlay);
    let base_chains = kernel.base_chains()?;
    let others = others(kernel, &base_chains, &identity.table())?;
    Ok(PolledState { sysctls, base_chains, others })
}

/// Reads the sysctls from which `desired` follows, or which are part of it; `None` for those that do not exist.
pub fn sysctls(kernel: &mut impl Kernel, desired: &Desired, underlay: &IfName) -> BTreeMap<String, Option<String>> {
    let links = desired.devices.keys().map(IfName::as_str).chain(["all", "default", underlay.as_str()]);
    let keys: BTreeSet<String> = links.map(reverse_path_key).chain(desired.sysctl_keys().cloned()).collect();
    keys.into_iter().map(|key| (key.clone(), kernel.sysctl(&key).ok())).collect()
}

/// Reads what is on our devices, and what stands in each place where an object is desired.
pub fn observed(
    kernel: &mut impl Kernel,
    host: Host,
    identity: &Identity,
    desired: &Desired,
) -> Result<Observed, KernelError> {
    let names: BTreeMap<u32, IfName> = host.links.values().map(|link| (link.index, link.name.clone())).collect();
    let wanted = desired.devices.keys().filter_map(|name| host.links.get(name));
    // A device of another kind is somebody else's, whatever its name.
    let wanted = wanted.filter(|link| link.tunnel().is_some());
    let ours: BTreeMap<u32, IfName> =
        wanted.chain(our_devices(&host, identity)).map(|link| (link.index, link.name.clone())).collect();
    let mut observed = Observed::default();
    let on_ours = host.addresses.iter().filter(|address| address.global).filter_map(|found| {
        Some(DeviceAddress {
            device: ours.get(&found.index)?.clone(),
            address: found.address,
            prefix_len: found.prefix_len,
        })
    });
    observed.addresses = on_ours.chain(on_bridge(&host, desired)).collect();
    // One sort of thousands of entries is cheaper than an insertion of each.
    let (mut neighbours, mut ends) = (Vec::new(), Vec::new());
    for (index, device) in &ours {
        for family in Family::BOTH {
            let entries = kernel.neighbours(*index, family)?.into_iter().filter(|entry| entry.permanent);
            neighbours.extend(entries.filter_map(|entry| Some(((device.clone(), entry.address), entry.mac?))));
        }
        let entries = kernel.fdb(*index)?.into_iter().filter(|entry| entry.permanent);
        ends.extend(entries.map(|entry| (device.clone(), entry.mac, entry.destination)));
    }
    observed.neighbours = neighbours.into_iter().collect();
    observed.fdb = ends.into_iter().collect();
    let routes = host.routes.iter();
    observed.routes =
        routes.filter_map(|route| Some(DeviceRoute::of(route, names.get(&route.index)?.clone()))).collect();
    // A sysctl that does not exist belongs to a device that does not exist yet.
    let sysctls = desired.sysctl_keys().filter_map(|key| Some((key.clone(), kernel.sysctl(key).ok()?)));
    observed.sysctls = sysctls.collect();
    observed.table = kernel.table(&identity.table())?;
    observed.accepts = our_rules(kernel, &host.base_chains, identity)?;
    observed.leftovers = flannel::leftovers(kernel, &host.base_chains, identity)?;
    observed.links = host.links;
    Ok(observed)
}

/// The desired addresses that the pods' bridge has. All others there are somebody else's.
fn on_bridge(host: &Host, desired: &Desired) -> Vec<DeviceAddress> {
    let Some(link) = desired.bridge.as_ref().and_then(|bridge| host.links.get(&bridge.name)) else { return Vec::new() };
    let wanted = desired.addresses.iter().filter(|wanted| wanted.device == link.name);
    let there = wanted.flat_map(|wanted| {
        let same =
            host.addresses.iter().filter(|found| found.index == link.index && serves(found.address, wanted.address));
        same.map(|found| DeviceAddress { prefix_len: found.prefix_len, ..wanted.clone() })
    });
    there.collect()
}

fn our_rules(
    kernel: &mut impl Kernel,
    chains: &[BaseChainFacts],
    identity: &Identity,
) -> Result<Vec<(Accept, u64)>, KernelError> {
    let comment = forward::comment(&identity.mark);
    let mut ours = Vec::new();
    for facts in chains.iter().filter(|facts| forward::is_iptables(facts)) {
        let (table, chain) = (&facts.table, &facts.chain);
        let rules = kernel.rules(table, chain)?.into_iter();
        let marked = rules.filter(|placed| placed.rule.comment.as_deref() == Some(comment.as_str()));
        ours.extend(marked.map(|RuleWithHandle { rule, handle }| {
            (Accept { table: table.clone(), chain: chain.clone(), rule }, handle)
        }));
    }
    Ok(ours)
}

#[cfg(test)]
mod tests;
