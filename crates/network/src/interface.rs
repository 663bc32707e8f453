//! Which interface and addresses the node uses for packets to its peers: the underlay.
//!
//! Pure: the host's links, addresses and routes are arguments.

use std::cmp::Reverse;
use std::net::IpAddr;

use dataplane::address::Address;
use dataplane::types::{Family, IfName, Mtu, PerFamily};
use regex_lite::Regex;

/// The state of the host that the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// The interfaces that can be chosen, in the order of their indexes.
    pub links: Vec<LinkFacts>,
    /// Each family's default route, where one leads out of such an interface.
    pub default_routes: PerFamily<DefaultRoute>,
    /// The route to the address of `--iface-can-reach`; none where the host has no route.
    pub lookup: Option<RouteLookup>,
}

/// A default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The index of the interface.
    pub index: u32,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The source address that the route prefers.
    pub source: Option<IpAddr>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// The interface's name.
    pub name: IfName,
    /// The interface's alternative names, where a flag names interfaces.
    pub alternative_names: Vec<String>,
    /// The interface's index.
    pub index: u32,
    /// The interface's MTU.
    pub mtu: Mtu,
    /// Whether the interface is up.
    pub up: bool,
    /// The interface's addresses, in the kernel's order.
    pub addresses: Vec<Address>,
}

/// The result of a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteLookup {
    /// The index of the interface.
    pub index: u32,
    /// The source address that the host would send with.
    pub source: IpAddr,
}

/// The flags and the configuration that decide the choice.
#[derive(Debug, Clone)]
pub struct InterfaceOptions {
    /// `--iface`: names or addresses. The first that exists is chosen.
    pub ifaces: Vec<String>,
    /// `--iface-regex`: each is compared with all addresses, then with all names.
    pub regexes: Vec<Regex>,
    /// `--iface-can-reach`.
    pub can_reach: Option<IpAddr>,
    /// `--public-ip` and `--public-ipv6`.
    pub public: PerFamily<IpAddr>,
    /// The families of the pods. Default routes of these families are preferred.
    pub pods: Vec<Family>,
    /// Whether the public address may differ from the interface's address: false for host-gw.
    pub nat: bool,
    /// The node's addresses so far. Their interface and they are chosen again where nothing else is asked for.
    pub in_use: PerFamily<IpAddr>,
}

impl InterfaceOptions {
    fn uses(&self, address: IpAddr) -> bool {
        self.in_use.get(Family::of(address)) == Some(&address)
    }
}

/// The interface and the addresses that packets between nodes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The interface's name.
    pub ifname: IfName,
    /// The interface's index.
    pub index: u32,
    /// The interface's MTU.
    pub mtu: Mtu,
    /// The interface's addresses, the source addresses of packets between nodes. At least one family has one.
    pub addresses: PerFamily<IpAddr>,
    /// The addresses that peers send to, of the same families.
    pub public: PerFamily<IpAddr>,
}

/// Why no interface can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// No interface matches `--iface` or `--iface-regex`: each name or expression, with the reason why it does not fit.
    #[error("Failed to find any valid interface to use: {0}")]
    NotFound(String),
    /// There is no route to the address of `--iface-can-reach`.
    #[error(
        "the host has no route to --iface-can-reach {0} through an interface that is up: add one, or name the interface with --iface"
    )]
    CannotReach(IpAddr),
    /// No flag names an interface, and the host has no default route.
    #[error("the host has no default route to choose an interface by: name the interface with --iface")]
    NoDefaultRoute,
    /// The default routes of the two families lead out of different interfaces.
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}: name the right one with --iface"
    )]
    DefaultRoutesDiffer {
        /// The interface of the IPv4 default route.
        v4: IfName,
        /// The interface of the IPv6 default route.
        v6: IfName,
    },
    /// The interface has no address that peers can send to.
    #[error(
        "interface {0} has no address that peers could be given: add one, or choose another interface with --iface"
    )]
    NoAddress(IfName),
    /// The interface is down.
    #[error("interface {0} is down: set it up, or choose another one with --iface")]
    Down(IfName),
    /// A public address is configured for a family of which the interface has no address.
    #[error(
        "{flag} is {address}, but interface {ifname} has no {family} address to send from: add one or leave the flag out"
    )]
    PublicAlone {
        /// The flag.
        flag: &'static str,
        /// The flag's value.
        address: IpAddr,
        /// The family.
        family: Family,
        /// The interface.
        ifname: IfName,
    },
    /// The public address is not the interface's, which host-gw does not allow.
    #[error(
        "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by host-gw backend \
         (public {public}, interface {local})"
    )]
    Nat {
        /// The public address.
        public: IpAddr,
        /// The interface's address.
        local: IpAddr,
    },
}

/// A candidate: an interface, with the address by which it was found.
#[derive(Clone, Copy)]
struct Pick<'a> {
    link: &'a LinkFacts,
    address: Option<IpAddr>,
}

/// Chooses the interface and its addresses: by `--iface`, then `--iface-regex`, then `--iface-can-reach`, then a public address that an
/// interface has, then the default routes.
pub fn choose(host: &HostFacts, options: &InterfaceOptions) -> Result<Underlay, InterfaceError> {
    let pick = if !options.ifaces.is_empty() || !options.regexes.is_empty() {
        by_name_or_address(host, options)?
    } else if let Some(target) = options.can_reach {
        let found = host.lookup.and_then(|RouteLookup { index, source }| {
            Some(Pick { link: by_index(&host.links, index)?, address: Some(source) })
        });
        found.ok_or(InterfaceError::CannotReach(target))?
    } else if let Some(pick) =
        options.public.iter().find_map(|(_, public)| by_address(host, options, |address| address == *public))
    {
        pick
    } else {
        by_default_route(host, options)?
    };
    underlay(pick, host, options)
}

/// Tries the names and expressions in their order. Skips interfaces that are down or have no address.
fn by_name_or_address<'a>(host: &'a HostFacts, options: &InterfaceOptions) -> Result<Pick<'a>, InterfaceError> {
    let mut tried = Vec::new();
    let named = options.ifaces.iter().map(|iface| (iface.as_str(), by_iface(host, options, iface)));
    let matched = options.regexes.iter().map(|regex| (regex.as_str(), by_regex(host, options, regex)));
    for (text, pick) in named.chain(matched) {
        let Some(pick) = pick else {
            tried.push(format!("{text}: no interface has that name or address"));
            continue;
        };
        match local_addresses(pick, host, options) {
            Ok(_) => return Ok(pick),
            Err(fault) => tried.push(format!("{text}: {fault}")),
        }
    }
    Err(InterfaceError::NotFound(tried.join("; ")))
}

fn by_iface<'a>(host: &'a HostFacts, options: &InterfaceOptions, iface: &str) -> Option<Pick<'a>> {
    match iface.parse::<IpAddr>() {
        Ok(address) => by_address(host, options, |candidate| candidate == address),
        Err(_) => by_name(host, |name| name == iface),
    }
}

fn by_regex<'a>(host: &'a HostFacts, options: &InterfaceOptions, regex: &Regex) -> Option<Pick<'a>> {
    by_address(host, options, |address| regex.is_match(&address.to_string()))
        .or_else(|| by_name(host, |name| regex.is_match(name)))
}

fn by_name(host: &HostFacts, fits: impl Fn(&str) -> bool) -> Option<Pick<'_>> {
    let has = |link: &&LinkFacts| fits(link.name.as_str()) || link.alternative_names.iter().any(|name| fits(name));
    host.links.iter().find(has).map(|link| Pick { link, address: None })
}

/// The first interface with an address that fits, and the best one of these.
fn by_address<'a>(host: &'a HostFacts, options: &InterfaceOptions, fits: impl Fn(IpAddr) -> bool) -> Option<Pick<'a>> {
    host.links.iter().find_map(|link| {
        let fitting = link.addresses.iter().filter(|facts| fits(facts.address));
        let best = fitting.min_by_key(|facts| Reverse(rank(facts, link, host, options)))?;
        Some(Pick { link, address: Some(best.address) })
    })
}

fn by_index(links: &[LinkFacts], index: u32) -> Option<&LinkFacts> {
    links.iter().find(|link| link.index == index)
}

/// The interface in use, as long as it is up and has an address in use. Else that of the default routes of the pods' families; where these
/// have no default route, of the other family's. Both default routes must lead out of one interface.
fn by_default_route<'a>(host: &'a HostFacts, options: &InterfaceOptions) -> Result<Pick<'a>, InterfaceError> {
    let link = |family| host.default_routes.get(family).and_then(|route| by_index(&host.links, route.index));
    let of_routes = Family::BOTH.into_iter().filter_map(link);
    let in_use = |facts: &Address| options.uses(facts.address) && is_usable(facts);
    let is_in_use = |link: &&LinkFacts| link.up && link.addresses.iter().any(in_use);
    if let Some(link) = of_routes.chain(&host.links).find(is_in_use) {
        return Ok(Pick { link, address: None });
    }
    let mut routes = PerFamily::from_fn(|family| link(family).filter(|_| options.pods.contains(&family)));
    if routes.is_empty() {
        routes = PerFamily::from_fn(link);
    }
    match (routes.v4, routes.v6) {
        (Some(v4), Some(v6)) if v4.index != v6.index => {
            Err(InterfaceError::DefaultRoutesDiffer { v4: v4.name.clone(), v6: v6.name.clone() })
        }
        (Some(link), _) | (None, Some(link)) => Ok(Pick { link, address: None }),
        (None, None) => Err(InterfaceError::NoDefaultRoute),
    }
}

/// The underlay on the chosen interface.
fn underlay(pick: Pick<'_>, host: &HostFacts, options: &InterfaceOptions) -> Result<Underlay, InterfaceError> {
    let addresses = local_addresses(pick, host, options)?;
    let ifname = pick.link.name.clone();
    for (family, &address) in options.public.iter() {
        match addresses.get(family) {
            None => {
                let flag = if family == Family::V4 { "--public-ip" } else { "--public-ipv6" };
                return Err(InterfaceError::PublicAlone { flag, address, family, ifname });
            }
            Some(&local) if local != address && !options.nat => {
                return Err(InterfaceError::Nat { public: address, local });
            }
            Some(_) => {}
        }
    }
    let public = addresses.map(|family, local| options.public.get(family).copied().unwrap_or(*local));
    Ok(Underlay { ifname, index: pick.link.index, mtu: pick.link.mtu, addresses, public })
}

/// The source addresses on the chosen interface: the public address if the interface has it, else the address by which the interface
/// was found, else the best one.
fn local_addresses(
    pick: Pick<'_>,
    host: &HostFacts,
    options: &InterfaceOptions,
) -> Result<PerFamily<IpAddr>, InterfaceError> {
    let link = pick.link;
    if !link.up {
        return Err(InterfaceError::Down(link.name.clone()));
    }
    let addresses = PerFamily::from_fn(|family| {
        let of_family = || link.addresses.iter().filter(move |facts| Family::of(facts.address) == family);
        let has = |address: &IpAddr| of_family().any(|facts| facts.address == *address);
        let picked = pick.address.filter(|address| Family::of(*address) == family);
        let best = || {
            of_family().filter(|facts| is_usable(facts)).min_by_key(|facts| Reverse(rank(facts, link, host, options)))
        };
        options.public.get(family).copied().filter(has).or(picked).or_else(|| Some(best()?.address))
    });
    if addresses.is_empty() { Err(InterfaceError::NoAddress(link.name.clone())) } else { Ok(addresses) }
}

/// False for addresses that are never the node's. Peers cannot use a link-local one: it is valid on one link only.
fn is_usable(facts: &Address) -> bool {
    let is_link_local = match facts.address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !facts.deprecated && !facts.duplicate && !is_link_local && !facts.address.is_loopback()
}

/// How good an address of an interface is: larger is better, and of equal ones the first in the kernel's order counts. The kernel lists the
/// newest IPv6 address first. One that may float is used where there is no other, and not held.
fn rank(facts: &Address, link: &LinkFacts, host: &HostFacts, options: &InterfaceOptions) -> impl Ord + use<> {
    let (is_in_use, stays) = (options.uses(facts.address), !facts.may_float());
    let route = host.default_routes.get(Family::of(facts.address)).filter(|route| route.index == link.index);
    let is_preferred = route.is_some_and(|route| route.source == Some(facts.address));
    let gateway = route.and_then(|route| route.gateway);
    let is_beside_gateway = gateway.is_some_and(|gateway| facts.prefix().is_some_and(|range| range.contains(gateway)));
    (
        is_usable(facts),
        is_in_use && stays,
        facts.global,
        !facts.tentative,
        // Temporary addresses last for a day (RFC 8981).
        !facts.temporary,
        is_preferred,
        is_beside_gateway,
        stays,
        is_in_use,
    )
}

#[cfg(test)]
mod tests;
