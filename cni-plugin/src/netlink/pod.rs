//! The pod's end of the pair. Everything here runs inside the pod's namespace.

use dataplane::address;
use dataplane::link::{self, Device, Link, LinkChange};
use dataplane::netlink::{KernelError, RouteSocket};
use dataplane::route::{Route, RouteKind};
use dataplane::sysctl;
use dataplane::types::{Family, IfName, RouteProtocol};

use super::{if_there, step};
use crate::cni_error::CniError;
use crate::result::{CniResult, Ip};

/// The interface of this name.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn find(pod: &mut RouteSocket, ifname: &IfName) -> Result<Option<Link>, CniError> {
    pod.link(ifname).map_err(step(format_args!("read link {ifname} in the container")))
}

/// Gives the interface its addresses and routes and sets it up, in one send. A route that is there stays: another interface's, or the
/// subnet's own. `result` keeps the routes that were made.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn configure(pod: &mut RouteSocket, ifname: &IfName, result: &mut CniResult) -> Result<(), CniError> {
    let missing =
        || step(format_args!("find link {ifname} in the container"))(KernelError::Missing(ifname.to_string()));
    let index = link::index_of(ifname).ok_or_else(missing)?;
    announce(ifname, &result.ips)?;
    let mut steps = Vec::new();
    let before_routes = result.ips.len() + 1;
    for Ip { address, .. } in &result.ips {
        let request = address::add(index, address.ip(), address.prefix());
        steps.push((format!("add address {address} to {ifname}"), request));
    }
    // Up after the addresses: the kernel announces the addresses that the link has when it comes up.
    let up = link::set(Device::Index(index), &LinkChange { up: Some(true), ..LinkChange::default() });
    steps.push((format!("take {ifname} up"), up));
    for route in &result.routes {
        // A route that names no next hop leads to the gateway of the first address of its family.
        let mut gateways = result.ips.iter().filter_map(|ip| ip.gateway);
        let on_link = Route {
            destination: route.dst,
            gateway: route.gw.or_else(|| gateways.find(|gateway| Family::of(*gateway) == route.dst.family())),
            index,
            onlink: false,
            protocol: RouteProtocol::BOOT,
            metric: 0,
            kind: RouteKind::Unicast,
        };
        steps.push((format!("add route {}", route.dst), on_link.add()));
    }
    let (actions, requests): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let mut made = Vec::new();
    for (place, (action, outcome)) in actions.into_iter().zip(pod.batch(&requests)).enumerate() {
        match outcome {
            Err(error) if error.is_exists() && place >= before_routes => made.push(false),
            Err(error) => return Err(step(format_args!("{action} in the container"))(error)),
            Ok(()) => made.push(true),
        }
    }
    let mut made = made.into_iter().skip(before_routes);
    result.routes.retain(|_| made.next() == Some(true));
    Ok(())
}

/// Makes the kernel announce the pod to its neighbours when the link comes up, and use its addresses without duplicate
/// address detection.
fn announce(ifname: &IfName, ips: &[Ip]) -> Result<(), CniError> {
    // A key of IPv6 is missing where the kernel was built or started without IPv6.
    let set =
        |key: String, value: &str| if_there(sysctl::write(&key, value), format_args!("set {key} in the container"));
    set(format!("net/ipv4/conf/{ifname}/arp_notify"), "1")?;
    set(format!("net/ipv6/conf/{ifname}/accept_dad"), "0")?;
    if ips.iter().any(|ip| ip.address.is_ipv6()) {
        for (key, value) in [("disable_ipv6", "0"), ("ndisc_notify", "1"), ("keep_addr_on_down", "1")] {
            set(format!("net/ipv6/conf/{ifname}/{key}"), value)?;
        }
    }
    Ok(())
}
