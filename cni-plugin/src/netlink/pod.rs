//! The pod's end of the pair. Everything here runs inside the pod's namespace.

use dataplane::address;
use dataplane::link::{self, Device, Link, LinkChange};
use dataplane::netlink::{KernelError, Socket};
use dataplane::route::{Route, RouteKind};
use dataplane::sysctl;
use dataplane::types::{Family, IfName, RouteProtocol};
use ipnetwork::IpNetwork;

use super::{NetlinkError, step};
use crate::result;

/// What `ip route` prints without `proto`: `boot`, as for a route that `ip route add` made.
const BOOT: RouteProtocol = RouteProtocol(3);

/// The interface of this name.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn find(pod: &mut Socket, ifname: &IfName) -> Result<Option<Link>, NetlinkError> {
    pod.link(ifname).map_err(step(format!("read link {ifname} in the container")))
}

/// Gives the interface its addresses and routes and sets it up, in one send.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn configure(
    pod: &mut Socket,
    ifname: &IfName,
    addresses: &[IpNetwork],
    routes: &[result::Route],
) -> Result<(), NetlinkError> {
    let missing = || step(format!("find link {ifname} in the container"))(KernelError::Missing(ifname.to_string()));
    let index = link::index_of(ifname).ok_or_else(missing)?;
    announce(ifname, addresses)?;
    let mut actions = Vec::new();
    let mut requests = Vec::new();
    for address in addresses {
        actions.push(format!("add address {address} to {ifname}"));
        requests.push(address::add(index, address.ip(), address.prefix()));
    }
    // Up after the addresses: the kernel announces the addresses that the link has when it comes up.
    actions.push(format!("take {ifname} up"));
    requests.push(link::set(Device::Index(index), &LinkChange { up: Some(true), ..LinkChange::default() }));
    for route in routes {
        actions.push(format!("add route {}", route.dst));
        let on_link = Route {
            destination: route.dst,
            gateway: route.gw,
            index,
            onlink: false,
            protocol: BOOT,
            metric: 0,
            kind: RouteKind::Unicast,
        };
        requests.push(on_link.add());
    }
    for (action, outcome) in actions.into_iter().zip(pod.batch(&requests)) {
        outcome.map_err(step(format!("{action} in the container")))?;
    }
    Ok(())
}

/// Makes the kernel announce the pod to its neighbours when the link comes up, and use its addresses without duplicate
/// address detection.
fn announce(ifname: &IfName, addresses: &[IpNetwork]) -> Result<(), NetlinkError> {
    let set = |key: String, value: &str| match sysctl::write(&key, value) {
        // The kernel was built or started without IPv6.
        Err(error) if error.is_missing() => Ok(()),
        other => other.map_err(step(format!("set {key} in the container"))),
    };
    set(format!("net/ipv4/conf/{ifname}/arp_notify"), "1")?;
    set(format!("net/ipv6/conf/{ifname}/accept_dad"), "0")?;
    if addresses.iter().any(|address| Family::of(address.ip()) == Family::V6) {
        for (key, value) in [("disable_ipv6", "0"), ("ndisc_notify", "1"), ("keep_addr_on_down", "1")] {
            set(format!("net/ipv6/conf/{ifname}/{key}"), value)?;
        }
    }
    Ok(())
}
