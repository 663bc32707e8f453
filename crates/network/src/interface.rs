//! Which interface and addresses the node uses for packets to its peers: the underlay.
//!
//! Pure: what the host has, and what the routing table says, are arguments.

use std::cmp::Reverse;
use std::net::IpAddr;

use dataplane::types::{Family, IfName, Mtu, PerFamily};
use regex_lite::Regex;

/// What the choice is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// The interfaces that could be chosen, in the kernel's order.
    pub links: Vec<LinkFacts>,
    /// The index of the interface of each family's default route.
    pub default_routes: PerFamily<u32>,
    /// How the host would send to the address of `--iface-can-reach`; none where it cannot.
    pub reach: Option<Reach>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: u32,
    /// Its MTU.
    pub mtu: Mtu,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<AddressFacts>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressFacts {
    /// The address.
    pub address: IpAddr,
    /// The length of its subnet.
    pub prefix_len: u8,
    /// Whether it is valid beyond its link (`scope global`).
    pub scope_global: bool,
    /// Whether it is one of IPv6's temporary addresses (RFC 8981), which others must not remember.
    pub temporary: bool,
    /// Whether it is deprecated: no longer to be used for anything new.
    pub deprecated: bool,
}

/// A route lookup's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The index of the interface.
    pub index: u32,
    /// The address that the host would send from.
    pub source: IpAddr,
}

/// What the operator says about it.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// `--iface`: names or addresses, the first that fits counts.
    pub ifaces: Vec<String>,
    /// `--iface-regex`: each is tried on all addresses, then on all names.
    pub regexes: Vec<Regex>,
    /// `--iface-can-reach`.
    pub can_reach: Option<IpAddr>,
    /// `--public-ip` and `--public-ipv6`.
    pub public: PerFamily<IpAddr>,
    /// The families of the pods: their default routes are looked at first.
    pub pods: Vec<Family>,
    /// Whether the public address may be another than the interface's: false for host-gw.
    pub nat: bool,
}

/// The interface and the addresses that packets between nodes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The interface's name.
    pub ifname: IfName,
    /// Its index.
    pub index: u32,
    /// Its MTU.
    pub mtu: Mtu,
    /// Its own addresses, which packets leave with; at least one family has one.
    pub addresses: PerFamily<IpAddr>,
    /// The addresses that peers send to: the same families.
    pub public: PerFamily<IpAddr>,
}

/// Why no interface could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// Nothing that was asked for is there.
    #[error("Failed to find any valid interface to use: {tried}")]
    NotFound {
        /// What was tried and what was wrong with it.
        tried: String,
    },
    /// There is no route to the address of `--iface-can-reach`.
    #[error(
        "the host has no route to --iface-can-reach {target} through an interface that is up: add one, or name the interface with --iface"
    )]
    CannotReach {
        /// The address.
        target: IpAddr,
    },
    /// Nothing was asked for and the host has no default route.
    #[error("the host has no default route to choose an interface by: name the interface with --iface")]
    NoDefaultRoute,
    /// The families' default routes disagree.
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}: name the right one with --iface"
    )]
    DefaultRoutesDiffer {
        /// That of IPv4.
        v4: IfName,
        /// That of IPv6.
        v6: IfName,
    },
    /// The interface has no address to use.
    #[error(
        "interface {ifname} has no address that peers could be given: add one, or choose another interface with --iface"
    )]
    NoAddress {
        /// The interface.
        ifname: IfName,
    },
    /// The interface is down.
    #[error("interface {ifname} is down: set it up, or choose another one with --iface")]
    Down {
        /// The interface.
        ifname: IfName,
    },
    /// A public address is given for a family that the interface does not have.
    #[error(
        "{flag} is {address}, but interface {ifname} has no {family} address to send from: add one or leave the flag out"
    )]
    PublicAlone {
        /// The flag.
        flag: &'static str,
        /// Its value.
        address: IpAddr,
        /// The family.
        family: Family,
        /// The interface.
        ifname: IfName,
    },
    /// host-gw was asked for with a public address that the interface does not have.
    #[error(
        "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by host-gw backend \
         (public {public}, interface {local})"
    )]
    Nat {
        /// The public address.
        public: IpAddr,
        /// The interface's.
        local: IpAddr,
    },
}

/// An interface, and the address of it that the operator's words led to.
#[derive(Clone, Copy)]
struct Pick<'a> {
    link: &'a LinkFacts,
    address: Option<IpAddr>,
}

/// Chooses the interface and its addresses: by `--iface`, then `--iface-regex`, then `--iface-can-reach`, then a public address that is
/// the host's own, then the default routes.
pub fn choose(host: &HostFacts, wishes: &Wishes) -> Result<Underlay, InterfaceError> {
    let pick = if !wishes.ifaces.is_empty() || !wishes.regexes.is_empty() {
        by_name_or_address(&host.links, wishes)?
    } else if let Some(target) = wishes.can_reach {
        by_reach(host).ok_or(InterfaceError::CannotReach { target })?
    } else if let Some(pick) = by_public_address(&host.links, wishes) {
        pick
    } else {
        by_default_route(host, &wishes.pods)?
    };
    underlay(pick, wishes)
}

/// Tries the names and expressions in their order. An interface that is down or has no address is passed over.
fn by_name_or_address<'a>(links: &'a [LinkFacts], wishes: &Wishes) -> Result<Pick<'a>, InterfaceError> {
    let mut tried = Vec::new();
    let named = wishes.ifaces.iter().map(|iface| (iface.as_str(), by_iface(links, iface)));
    let matched = wishes.regexes.iter().map(|regex| (regex.as_str(), by_regex(links, regex)));
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
    Err(InterfaceError::NotFound { tried: tried.join("; ") })
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

fn by_reach(host: &HostFacts) -> Option<Pick<'_>> {
    let reach = host.reach?;
    Some(Pick { link: by_index(&host.links, reach.index)?, address: Some(reach.source) })
}

fn by_public_address<'a>(links: &'a [LinkFacts], wishes: &Wishes) -> Option<Pick<'a>> {
    let mut publics = wishes.public.iter();
    publics.find_map(|(_, public)| by_address(links, |address| address == *public))
}

/// The interface of the default routes of the pods' families; where these have none, of any. Two families must agree.
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

/// The underlay on a chosen interface.
fn underlay(pick: Pick<'_>, wishes: &Wishes) -> Result<Underlay, InterfaceError> {
    let addresses = local_addresses(pick, &wishes.public)?;
    let ifname = pick.link.name.clone();
    for (family, &address) in wishes.public.iter() {
        match addresses.get(family) {
            None => {
                let flag = if family == Family::V4 { "--public-ip" } else { "--public-ipv6" };
                return Err(InterfaceError::PublicAlone { flag, address, family, ifname });
            }
            Some(&local) if local != address && !wishes.nat => {
                return Err(InterfaceError::Nat { public: address, local });
            }
            Some(_) => {}
        }
    }
    let public = addresses.map(|family, local| wishes.public.get(family).copied().unwrap_or(*local));
    Ok(Underlay { ifname, index: pick.link.index, mtu: pick.link.mtu, addresses, public })
}

/// The addresses of a chosen interface that packets leave with: a public one if the interface has it, else the picked, else the best.
fn local_addresses(pick: Pick<'_>, public: &PerFamily<IpAddr>) -> Result<PerFamily<IpAddr>, InterfaceError> {
    let link = pick.link;
    if !link.up {
        return Err(InterfaceError::Down { ifname: link.name.clone() });
    }
    let addresses = PerFamily::from_fn(|family| {
        let has = |address: &IpAddr| link.addresses.iter().any(|facts| facts.address == *address);
        let picked = pick.address.filter(|address| Family::of(*address) == family);
        public.get(family).copied().filter(has).or(picked).or_else(|| best(link, family))
    });
    if addresses.is_empty() { Err(InterfaceError::NoAddress { ifname: link.name.clone() }) } else { Ok(addresses) }
}

/// The address of an interface that peers can be given: global before link-local, lasting before temporary, then the kernel's order.
fn best(link: &LinkFacts, family: Family) -> Option<IpAddr> {
    let usable = link.addresses.iter().filter(|facts| {
        let address = facts.address;
        // A link-local IPv6 address means something else on every link, so peers can do nothing with it.
        let confined = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Family::of(address) == family && !facts.deprecated && !confined && !address.is_loopback()
    });
    // The first of equals: `max_by_key` would give the last.
    usable.min_by_key(|facts| Reverse((facts.scope_global, !facts.temporary))).map(|facts| facts.address)
}

#[cfg(test)]
mod tests;
