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
    /// The interfaces that can be chosen, in the kernel's order.
    pub links: Vec<LinkFacts>,
    /// The index of the interface of each family's default route.
    pub default_routes: PerFamily<u32>,
    /// The route to the address of `--iface-can-reach`; none where the host has no route.
    pub lookup: Option<RouteLookup>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// The interface's name.
    pub name: IfName,
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
        by_name_or_address(&host.links, options)?
    } else if let Some(target) = options.can_reach {
        let found = host.lookup.and_then(|RouteLookup { index, source }| {
            Some(Pick { link: by_index(&host.links, index)?, address: Some(source) })
        });
        found.ok_or(InterfaceError::CannotReach(target))?
    } else if let Some(pick) =
        options.public.iter().find_map(|(_, public)| by_address(&host.links, |address| address == *public))
    {
        pick
    } else {
        by_default_route(host, &options.pods)?
    };
    underlay(pick, options)
}

/// Tries the names and expressions in their order. Skips interfaces that are down or have no address.
fn by_name_or_address<'a>(links: &'a [LinkFacts], options: &InterfaceOptions) -> Result<Pick<'a>, InterfaceError> {
    let mut tried = Vec::new();
    let named = options.ifaces.iter().map(|iface| (iface.as_str(), by_iface(links, iface)));
    let matched = options.regexes.iter().map(|regex| (regex.as_str(), by_regex(links, regex)));
    for (text, pick) in named.chain(matched) {
        let Some(pick) = pick else {
            tried.push(format!("{text}: no interface has that name or address"));
            continue;
        };
        match local_addresses(pick, &PerFamily::none()) {
            Ok(_) => return Ok(pick),
            Err(fault) => tried.push(format!("{text}: {fault}")),
        }
    }
    Err(InterfaceError::NotFound(tried.join("; ")))
}

fn by_iface<'a>(links: &'a [LinkFacts], iface: &str) -> Option<Pick<'a>> {
    match iface.parse::<IpAddr>() {
        Ok(address) => by_address(links, |candidate| candidate == address),
        Err(_) => links.iter().find(|link| link.name.as_str() == iface).map(|link| Pick { link, address: None }),
    }
}

fn by_regex<'a>(links: &'a [LinkFacts], regex: &Regex) -> Option<Pick<'a>> {
    by_address(links, |address| regex.is_match(&address.to_string())).or_else(|| {
        let link = links.iter().find(|link| regex.is_match(link.name.as_str()))?;
        Some(Pick { link, address: None })
    })
}

fn by_address(links: &[LinkFacts], fits: impl Fn(IpAddr) -> bool) -> Option<Pick<'_>> {
    links.iter().find_map(|link| {
        let address = link.addresses.iter().map(|facts| facts.address).find(|address| fits(*address))?;
        Some(Pick { link, address: Some(address) })
    })
}

fn by_index(links: &[LinkFacts], index: u32) -> Option<&LinkFacts> {
    links.iter().find(|link| link.index == index)
}

/// The interface of the default routes of the pods' families; where these have no default route, of the other family's. Both default
/// routes must lead out of one interface.
fn by_default_route<'a>(host: &'a HostFacts, pods: &[Family]) -> Result<Pick<'a>, InterfaceError> {
    let link = |family| host.default_routes.get(family).and_then(|index| by_index(&host.links, *index));
    let mut routes = PerFamily::from_fn(|family| link(family).filter(|_| pods.contains(&family)));
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
fn underlay(pick: Pick<'_>, options: &InterfaceOptions) -> Result<Underlay, InterfaceError> {
    let addresses = local_addresses(pick, &options.public)?;
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
fn local_addresses(pick: Pick<'_>, public: &PerFamily<IpAddr>) -> Result<PerFamily<IpAddr>, InterfaceError> {
    let link = pick.link;
    if !link.up {
        return Err(InterfaceError::Down(link.name.clone()));
    }
    let addresses = PerFamily::from_fn(|family| {
        let has = |address: &IpAddr| link.addresses.iter().any(|facts| facts.address == *address);
        let picked = pick.address.filter(|address| Family::of(*address) == family);
        public.get(family).copied().filter(has).or(picked).or_else(|| best(link, family))
    });
    if addresses.is_empty() { Err(InterfaceError::NoAddress(link.name.clone())) } else { Ok(addresses) }
}

/// The best address of an interface: global scope first, temporary addresses last (RFC 8981), then the kernel's order.
fn best(link: &LinkFacts, family: Family) -> Option<IpAddr> {
    let usable = link.addresses.iter().filter(|facts| {
        let address = facts.address;
        // Peers cannot use a link-local IPv6 address: it is valid on one link only.
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Family::of(address) == family && !facts.deprecated && !is_link_local && !address.is_loopback()
    });
    // `min_by_key` returns the first of equal elements, `max_by_key` the last.
    usable.min_by_key(|facts| Reverse((facts.global, !facts.temporary))).map(|facts| facts.address)
}

#[cfg(test)]
mod tests;
