//! The bridge of the node's pods. The first ADD makes it; several may run at a time.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dataplane::address;
use dataplane::link::{self, Device, Kind, Link, LinkChange};
use dataplane::netlink::{KernelError, Request, RouteSocket};
use dataplane::sysctl;
use dataplane::types::{Family, IfName, Mac, RouteProtocol};
use ipnetwork::IpNetwork;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::{if_there, mac_for, on_link, step};
use crate::attachment::fnv1a;
use crate::cni_error::{CniError, Code};
use crate::conf::plugin_conf::BridgeConf;

/// Makes or changes the bridge as `conf` has it, with the address of each of `gateways`, and gives the link as it was read. The node
/// forwards their families. `present` is the result of [`find`].
///
/// # Errors
/// Where the name is another link's, the bridge has another subnet's address, or the kernel refuses.
pub fn ensure(
    host: &mut RouteSocket,
    conf: &BridgeConf,
    present: Option<Link>,
    gateways: &[IpNetwork],
) -> Result<Link, CniError> {
    let mac = gateways.first().map_or_else(|| named_mac(&conf.name), |gateway| mac_for(gateway.ip()));
    let bridge = match present {
        Some(bridge) => bridge,
        None => make(host, conf, mac)?,
    };
    forward(host, gateways, conf.accept_ra_file.as_deref())?;
    let addressing = if conf.is_gateway { addressing(host, conf, &bridge, gateways)? } else { Vec::new() };
    // Later ADDs find the bridge in use, with its addresses and so with its settings.
    if !bridge.carrier || !addressing.is_empty() {
        settle(&conf.name, gateways)?;
    }
    let mut requests = Vec::new();
    let change = LinkChange {
        up: (!bridge.up).then_some(true),
        mtu: conf.mtu.filter(|mtu| mtu.get() != bridge.mtu),
        promiscuous: conf.promiscuous.then_some(true),
        ..LinkChange::default()
    };
    if change != LinkChange::default() {
        requests.push(link::set(Device::Index(bridge.index), &change));
    }
    requests.extend(addressing);
    for outcome in host.batch(&requests) {
        // The ADD of another pod may have added or removed the same at this time.
        let outcome = outcome.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) });
        if_there(outcome, format_args!("configure bridge {}", conf.name))?;
    }
    Ok(bridge)
}

/// The bridge of this name.
///
/// # Errors
/// Where the name is another link's.
pub fn find(host: &mut RouteSocket, name: &IfName) -> Result<Option<Link>, CniError> {
    match host.link(name).map_err(step(format_args!("read link {name}")))? {
        Some(link) if link.kind != Kind::Bridge => Err(CniError::new(
            Code::InvalidConfiguration,
            format!("\"{name}\" already exists but is not a bridge; give another name in 'bridge'"),
        )),
        found => Ok(found),
    }
}

/// Makes the bridge, or reads the one that another pod's ADD has just made.
fn make(host: &mut RouteSocket, conf: &BridgeConf, mac: Mac) -> Result<Link, CniError> {
    let name = &conf.name;
    let make = || step(format!("create bridge {name}"));
    match host.request(link::add_bridge(name, mac, conf.mtu)) {
        Err(error) if !error.is_exists() => return Err(make()(error)),
        _ => {}
    }
    find(host, name)?.ok_or_else(|| make()(KernelError::Missing(format!("link {name}"))))
}

/// The requests that give the bridge its addresses; none where it has them.
fn addressing(
    host: &mut RouteSocket,
    conf: &BridgeConf,
    bridge: &Link,
    gateways: &[IpNetwork],
) -> Result<Vec<Request>, CniError> {
    let mut present: Vec<IpNetwork> = Vec::new();
    for family in Family::BOTH.into_iter().filter(|family| has(gateways, *family)) {
        let of_family = host.addresses(Some(bridge.index), Some(family));
        let of_family = of_family.map_err(step(format_args!("read addresses of {}", conf.name)))?;
        present.extend(of_family.iter().filter_map(on_link));
    }
    let mut requests = Vec::new();
    for wanted in gateways.iter().filter(|wanted| !present.contains(wanted)) {
        for other in present.iter().filter(|other| !gateways.contains(other) && excludes(**other, *wanted)) {
            if !conf.force_address {
                let message = format!(
                    "\"{}\" already has an IP address different from {wanted}: {other}; remove that address, or set \
                     'forceAddress' to have it replaced",
                    conf.name
                );
                return Err(CniError::new(Code::InvalidConfiguration, message));
            }
            requests.push(address::delete(bridge.index, other.ip(), other.prefix()));
        }
        requests.push(address::add(bridge.index, wanted.ip(), wanted.prefix()));
    }
    // The address that the kernel would make, but usable at once, since the kernel asks for a pod's hardware address by it.
    let is_link_local = |one: &IpNetwork| matches!(one.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
    if let Some(mac) = bridge.mac.filter(|_| has(gateways, Family::V6) && !present.iter().any(is_link_local)) {
        requests.push(address::add(bridge.index, mac.link_local().into(), 64));
    }
    // Where another program made the bridge without a hardware address, the kernel gives it the lowest of its ports': pods
    // would lose their gateway when a port comes or goes. Setting the address fixes it.
    if let (false, Some(mac)) = (requests.is_empty(), bridge.mac) {
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        requests.push(link::set(Device::Index(bridge.index), &change));
    }
    Ok(requests)
}

/// Whether an address must go: a second IPv4 address would become the source of the node's packets to pods; IPv6 chooses the
/// source by prefix.
fn excludes(address: IpNetwork, wanted: IpNetwork) -> bool {
    let overlaps = address.contains(wanted.ip()) || wanted.contains(address.ip());
    overlaps || (address.is_ipv4() && wanted.is_ipv4())
}

/// The hardware address of a bridge without an IP address, made of its name.
fn named_mac(name: &IfName) -> Mac {
    let [_, _, octets @ ..] = fnv1a(name.as_str().as_bytes()).to_be_bytes();
    Mac::local(octets)
}

/// The most ports that the kernel has on one bridge (`BR_MAX_PORTS`, less number 0).
pub const MAX_PORTS: usize = 1023;

/// The error where the bridge has all its ports.
pub fn full(name: &IfName) -> CniError {
    let message =
        format!("bridge {name} is full: the kernel allows {MAX_PORTS} ports on one bridge; delete pods of this node");
    CniError::new(Code::TryAgainLater, message)
}

/// What the bridge needs of each family that it is the gateway of, whatever the node's defaults for new links: it forwards,
/// and has IPv6 addresses, which the kernel does not try before it uses them.
const SETTINGS: [(Family, &str, &str); 4] = [
    (Family::V4, "forwarding", "1"),
    (Family::V6, "accept_dad", "0"),
    (Family::V6, "disable_ipv6", "0"),
    (Family::V6, "forwarding", "1"),
];

fn settle(name: &IfName, gateways: &[IpNetwork]) -> Result<(), CniError> {
    ignore_advertisements(name)?;
    for (family, setting, value) in SETTINGS.into_iter().filter(|(family, ..)| has(gateways, *family)) {
        let folder = if family == Family::V4 { "ipv4" } else { "ipv6" };
        let key = format!("net/{folder}/conf/{name}/{setting}");
        if_there(sysctl::ensure(&key, value), format_args!("set {key} to {value}"))?;
    }
    Ok(())
}

fn has(gateways: &[IpNetwork], family: Family) -> bool {
    gateways.iter().any(|gateway| Family::of(gateway.ip()) == family)
}

/// Lets the node forward the families of `gateways`.
fn forward(host: &mut RouteSocket, gateways: &[IpNetwork], accept_ra_file: Option<&Path>) -> Result<(), CniError> {
    for family in Family::BOTH.into_iter().filter(|family| has(gateways, *family)) {
        let key = match family {
            Family::V4 => "net/ipv4/ip_forward",
            Family::V6 => "net/ipv6/conf/all/forwarding",
        };
        let fault = || step(format!("let the node forward {family}"));
        if sysctl::read(key).map_err(fault())? == "1" {
            continue;
        }
        if family == Family::V6 {
            keep_routers(host, accept_ra_file)?;
        }
        sysctl::write(key, "1").map_err(fault())?;
    }
    Ok(())
}

/// Lets the links that are configured by a router be so also while the node forwards: the kernel removes their default routes
/// otherwise, for good. Which ones, is noted first, so that the daemon's clean-up finds them even if this process is killed.
fn keep_routers(host: &mut RouteSocket, accept_ra_file: Option<&Path>) -> Result<(), CniError> {
    let read = step("read what routers have announced");
    let announced = host.routes(Family::V6).and_then(|routes| {
        let addresses = host.addresses(None, Some(Family::V6))?.into_iter().filter(|one| one.global && !one.permanent);
        let routes =
            routes.into_iter().filter(|route| route.protocol == RouteProtocol::ROUTER).map(|route| route.index);
        let indexes: BTreeSet<u32> = routes.chain(addresses.map(|address| address.index)).collect();
        Ok(host.links()?.into_iter().filter(|link| indexes.contains(&link.index)).collect::<Vec<_>>())
    });
    for link in announced.map_err(read)? {
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            accept_ra_file.map_or(Ok(()), |file| note(file, &key))?;
            if_there(
                sysctl::write(&key, "2"),
                format_args!("keep the router of {} while the node forwards", link.name),
            )?;
        }
    }
    Ok(())
}

/// Adds a line to a file.
fn note(path: &Path, line: &str) -> Result<(), CniError> {
    let file =
        OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.map_err(|error| CniError::new(Code::Io, format!("cannot note {line} in {}: {error}", path.display())))
}

/// Makes a link of the node ignore router advertisements: pods must not configure the node.
///
/// # Errors
/// Where the kernel refuses. A kernel without IPv6 has no advertisements.
pub fn ignore_advertisements(name: &IfName) -> Result<(), CniError> {
    let written = sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    if_there(written, format_args!("turn off router advertisements on {name}"))
}
