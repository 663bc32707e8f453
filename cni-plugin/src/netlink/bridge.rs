//! The bridge of the node's pods. The first ADD makes it; several may run at a time.

use dataplane::address;
use dataplane::link::{self, Device, Kind, Link, LinkChange};
use dataplane::netlink::{KernelError, Request, Socket};
use dataplane::sysctl;
use dataplane::types::{Family, IfName, Mac};
use ipnetwork::IpNetwork;

use super::{if_there, mac_for, on_link, step};
use crate::attachment::fnv1a;
use crate::cni_error::{CniError, Code};
use crate::conf::plugin_conf::BridgeConf;

/// Makes or changes the bridge as `conf` has it, with the address of each of `gateways`, and gives the link as it was read.
/// `present` is the result of [`find`].
///
/// # Errors
/// Where the name is another link's, the bridge has another subnet's address, or the kernel refuses.
pub fn ensure(
    host: &mut Socket,
    conf: &BridgeConf,
    present: Option<Link>,
    gateways: &[IpNetwork],
) -> Result<Link, CniError> {
    let mac = gateways.first().map_or_else(|| named_mac(&conf.name), |gateway| mac_for(gateway.ip()));
    let bridge = match present {
        Some(bridge) => bridge,
        None => make(host, conf, mac)?,
    };
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
    if conf.is_gateway {
        requests.extend(addressing(host, conf, &bridge, gateways)?);
    }
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
pub fn find(host: &mut Socket, name: &IfName) -> Result<Option<Link>, CniError> {
    match host.link(name).map_err(step(format_args!("read link {name}")))? {
        Some(link) if link.kind != Kind::Bridge => Err(CniError::new(
            Code::InvalidConfiguration,
            format!("\"{name}\" already exists but is not a bridge; give another name in 'bridge'"),
        )),
        found => Ok(found),
    }
}

/// Makes the bridge, or reads the one that another pod's ADD has just made.
fn make(host: &mut Socket, conf: &BridgeConf, mac: Mac) -> Result<Link, CniError> {
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
    host: &mut Socket,
    conf: &BridgeConf,
    bridge: &Link,
    gateways: &[IpNetwork],
) -> Result<Vec<Request>, CniError> {
    let mut present: Vec<IpNetwork> = Vec::new();
    for family in Family::BOTH.into_iter().filter(|family| gateways.iter().any(|g| Family::of(g.ip()) == *family)) {
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

/// Lets the node forward the families of `gateways`.
///
/// # Errors
/// Where the kernel does not have the family, or refuses.
pub fn forward(gateways: &[IpNetwork]) -> Result<(), CniError> {
    for family in Family::BOTH {
        let key = match family {
            Family::V4 => "net/ipv4/ip_forward",
            Family::V6 => "net/ipv6/conf/all/forwarding",
        };
        if gateways.iter().any(|gateway| Family::of(gateway.ip()) == family) {
            sysctl::ensure(key, "1").map_err(step(format_args!("let the node forward {family}")))?;
        }
    }
    Ok(())
}

/// Makes a link of the node ignore router advertisements: pods must not configure the node.
///
/// # Errors
/// Where the kernel refuses. A kernel without IPv6 has no advertisements.
pub fn ignore_advertisements(name: &IfName) -> Result<(), CniError> {
    let written = sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    if_there(written, format_args!("turn off router advertisements on {name}"))
}
