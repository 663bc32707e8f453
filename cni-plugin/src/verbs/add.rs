//! ADD: checks everything, then makes it, and undoes what it has made where a later step fails.

use std::net::IpAddr;

use dataplane::link::{self, Device, Link};
use dataplane::netlink::Socket;
use dataplane::types::{Family, Mac, Mtu};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::conf::plugin_conf::PluginConf;
use crate::ipam::{Allocation, Reservations};
use crate::netlink::namespace::Namespace;
use crate::netlink::{NetlinkError, bridge, mac_for, pod, step, veth};
use crate::result::{CniResult, Interface, Ip, Route};

/// What ADD has made so far, and removes where a later step fails.
#[derive(Debug, Default)]
struct Made {
    addresses: bool,
    veth: bool,
}

/// The kernel's default for a veth.
const VETH_MTU: u32 = 1500;

/// The links of the result.
struct Links {
    bridge: Link,
    pod_mac: Mac,
}

pub(super) fn add(document: &Document, target: &Target) -> Result<Value, CniError> {
    let conf = super::read_conf(document, &target.args, Code::TryAgainLater)?;
    let namespace = Namespace::open(target)?;
    let attachment = super::attachment_of(document, target);
    let mut host = Socket::open().map_err(step("open a netlink socket"))?;
    let mut made = Made::default();
    let attached = attach(&conf, &attachment, &namespace, &mut host, &mut made);
    let result = attached.and_then(|(links, allocations)| {
        let result = result_of(&conf, &attachment, &target.netns, &links, &allocations);
        let result = result.after(conf.prev_result.clone().unwrap_or_default());
        result.to_json(conf.version).map_err(|error| CniError::of(Code::InvalidConfiguration, &error))
    });
    if result.is_err() {
        undo(&conf, &attachment, &mut host, &made);
    }
    result
}

fn attach(
    conf: &PluginConf,
    attachment: &Attachment,
    namespace: &Namespace,
    host: &mut Socket,
    made: &mut Made,
) -> Result<(Links, Vec<Allocation>), CniError> {
    let bridge = bridge::find(host, &conf.bridge.name)?;
    let had_ports = bridge.as_ref().is_some_and(|bridge| bridge.carrier);
    let inside = || attach_inside(conf, attachment, namespace, host, bridge, made);
    let (links, allocations) = namespace.visit(inside)?;
    // These are files of the node's namespace.
    bridge::ignore_advertisements(&conf.bridge.name)?;
    bridge::ignore_advertisements(&attachment.host_veth())?;
    if conf.bridge.is_gateway {
        bridge::forward(&gateways(conf, &allocations))?;
    }
    veth::await_forwarding(host, attachment)?;
    if !had_ports {
        // The first port gives the bridge a carrier. The kernel handles that change later, up to a second, and until then the
        // bridge sends nothing. Reading the link makes the kernel handle it now, as for the port.
        bridge::find(host, &conf.bridge.name)?;
    }
    Ok((links, allocations))
}

/// The part that runs in the pod's namespace. `host` is the socket of the node's.
fn attach_inside(
    conf: &PluginConf,
    attachment: &Attachment,
    namespace: &Namespace,
    host: &mut Socket,
    bridge: Option<Link>,
    made: &mut Made,
) -> Result<(Links, Vec<Allocation>), CniError> {
    let mut container = Socket::open().map_err(step("open a netlink socket in the container"))?;
    if link::index_of(&attachment.ifname).is_some() {
        return Err(NetlinkError::IfnameTaken(attachment.ifname.clone()).into());
    }
    let allocations =
        Reservations::lock(&conf.data_dir, &conf.network)?.allocate(attachment, &conf.ranges, &conf.requested)?;
    made.addresses = true;
    let bridge = bridge::ensure(host, &conf.bridge, bridge, &gateways(conf, &allocations))?;
    let pod_mac = conf.mac.unwrap_or_else(|| mac_for(allocations[0].address.ip()));
    veth::make(host, attachment, &bridge, &conf.bridge, pod_mac, namespace)?;
    made.veth = true;
    let addresses: Vec<_> = allocations.iter().map(|allocation| allocation.address).collect();
    let routes = routes(conf, &allocations);
    let reachable: Vec<_> = routes.iter().map(|route| Route::via(route.dst, next_hop(route, &allocations))).collect();
    pod::configure(&mut container, &attachment.ifname, &addresses, &reachable)?;
    Ok((Links { bridge, pod_mac }, allocations))
}

/// Removes what ADD has made. An error here is not reported: the first error is the one to report, and DEL removes the rest.
fn undo(conf: &PluginConf, attachment: &Attachment, host: &mut Socket, made: &Made) {
    if made.veth {
        let _ = host.request(link::delete(Device::Name(&attachment.host_veth())));
    }
    if made.addresses
        && let Ok(Some(mut reservations)) = Reservations::lock_existing(&conf.data_dir, &conf.network)
    {
        let _ = reservations.release(attachment);
    }
}

/// The bridge's addresses: the gateway of each allocation, in the allocation's subnet.
fn gateways(conf: &PluginConf, allocations: &[Allocation]) -> Vec<IpNetwork> {
    if !conf.bridge.is_gateway {
        return Vec::new();
    }
    let on_bridge = |allocation: &Allocation| IpNetwork::new(allocation.gateway, allocation.address.prefix()).ok();
    allocations.iter().filter_map(on_bridge).collect()
}

/// The configured routes, and a default route for each family that has none through a gateway.
fn routes(conf: &PluginConf, allocations: &[Allocation]) -> Vec<Route> {
    let mut routes = conf.routes.clone();
    routes
        .retain(|route| allocations.iter().any(|allocation| Family::of(allocation.address.ip()) == route.dst.family()));
    for family in Family::BOTH.into_iter().filter(|_| conf.is_default_gateway) {
        let allocation = allocations.iter().find(|allocation| Family::of(allocation.gateway) == family);
        let is_default = |route: &Route| route.dst == family.default_route();
        if let (Some(allocation), false) = (allocation, routes.iter().any(is_default)) {
            routes.push(Route::via(family.default_route(), Some(allocation.gateway)));
        }
    }
    routes
}

/// A route that names no next hop leads to the gateway of the first allocation of its family.
fn next_hop(route: &Route, allocations: &[Allocation]) -> Option<IpAddr> {
    let gateway = || {
        allocations
            .iter()
            .map(|allocation| allocation.gateway)
            .find(|gateway| Family::of(*gateway) == route.dst.family())
    };
    route.gw.or_else(gateway)
}

fn result_of(
    conf: &PluginConf,
    attachment: &Attachment,
    sandbox: &str,
    links: &Links,
    allocations: &[Allocation],
) -> CniResult {
    let mtu = Some(conf.bridge.mtu.map_or(VETH_MTU, Mtu::get));
    let interface = |name: &str, mac: Option<Mac>, mtu| Interface {
        name: name.to_owned(),
        mac: mac.map(|mac| mac.to_string()),
        mtu,
        ..Interface::default()
    };
    let host = attachment.host_veth();
    let bridge_mtu = conf.bridge.mtu.map_or(links.bridge.mtu, Mtu::get);
    let mut container = interface(attachment.ifname.as_str(), Some(links.pod_mac), mtu);
    container.sandbox = Some(sandbox.to_owned());
    let ip = |allocation: &Allocation| Ip {
        address: allocation.address,
        gateway: Some(allocation.gateway),
        interface: Some(2),
    };
    CniResult {
        interfaces: vec![
            interface(conf.bridge.name.as_str(), links.bridge.mac, Some(bridge_mtu)),
            interface(host.as_str(), Some(attachment.host_mac()), mtu),
            container,
        ],
        ips: allocations.iter().map(ip).collect(),
        routes: routes(conf, allocations),
        dns: conf.dns.clone(),
    }
}
