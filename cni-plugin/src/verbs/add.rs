//! ADD: everything is checked, then made, and undone where a later step fails.

use std::net::IpAddr;

use dataplane::link::{self, Device, Link};
use dataplane::netlink::Socket;
use dataplane::types::{Family, Mac, Mtu};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::conf::Document;
use crate::conf::net_conf::NetConf;
use crate::failure::{Code, Failure};
use crate::ipam::{Lease, Reservations};
use crate::result::{CniResult, Interface, Ip, Route};
use crate::wire::namespace::Namespace;
use crate::wire::{WireError, bridge, mac_for, pod, step, veth};

/// What was made so far, and has to go where ADD fails.
#[derive(Debug, Default)]
struct Made {
    addresses: bool,
    veth: bool,
}

/// The kernel's default for a veth.
const VETH_MTU: u32 = 1500;

/// What the result tells of the links.
struct Links {
    bridge: Link,
    pod_mac: Mac,
}

pub(super) fn add(document: &Document, target: &Target) -> Result<Value, Failure> {
    let conf = super::read_conf(document, &target.args, Code::TryAgainLater)?;
    let namespace = Namespace::open(target)?;
    let attachment = super::attachment_of(document, target);
    let mut host = Socket::open().map_err(step("speak to the kernel"))?;
    let mut made = Made::default();
    let attached = attach(&conf, &attachment, &namespace, &mut host, &mut made);
    let result = attached.and_then(|(links, leases)| {
        let result = result_of(&conf, &attachment, &target.netns, &links, &leases);
        let result = result.after(conf.prev_result.clone().unwrap_or_default());
        result.to_json(conf.version).map_err(|error| Failure::of(Code::InvalidConfiguration, &error))
    });
    if result.is_err() {
        undo(&conf, &attachment, &mut host, &made);
    }
    result
}

fn attach(
    conf: &NetConf,
    attachment: &Attachment,
    namespace: &Namespace,
    host: &mut Socket,
    made: &mut Made,
) -> Result<(Links, Vec<Lease>), Failure> {
    let bridge = bridge::find(host, &conf.bridge.name)?;
    let had_ports = bridge.as_ref().is_some_and(|bridge| bridge.carrier);
    let inside = || attach_inside(conf, attachment, namespace, host, bridge, made);
    let (links, leases) = namespace.visit(inside)?;
    // These are files of the node's namespace.
    bridge::ignore_advertisements(&conf.bridge.name)?;
    bridge::ignore_advertisements(&attachment.host_veth())?;
    if conf.bridge.is_gateway {
        bridge::forward(&gateways(conf, &leases))?;
    }
    veth::await_forwarding(host, attachment)?;
    if !had_ports {
        // With its first port the bridge has a carrier, but sends nothing before the kernel has looked at that too, which
        // it may put off for a second. Reading the link makes it look at once, as it does for the port.
        bridge::find(host, &conf.bridge.name)?;
    }
    Ok((links, leases))
}

/// The part that runs in the pod's namespace, where only `host` still speaks to the node's.
fn attach_inside(
    conf: &NetConf,
    attachment: &Attachment,
    namespace: &Namespace,
    host: &mut Socket,
    bridge: Option<Link>,
    made: &mut Made,
) -> Result<(Links, Vec<Lease>), Failure> {
    let mut container = Socket::open().map_err(step("speak to the kernel in the container"))?;
    if link::index_of(&attachment.ifname).is_some() {
        return Err(WireError::IfnameTaken(attachment.ifname.clone()).into());
    }
    let leases =
        Reservations::lock(&conf.data_dir, &conf.network)?.allocate(attachment, &conf.ranges, &conf.requested)?;
    made.addresses = true;
    let bridge = bridge::ensure(host, &conf.bridge, bridge, &gateways(conf, &leases))?;
    let pod_mac = conf.mac.unwrap_or_else(|| mac_for(leases[0].address.ip()));
    veth::make(host, attachment, &bridge, &conf.bridge, pod_mac, namespace)?;
    made.veth = true;
    let addresses: Vec<_> = leases.iter().map(|lease| lease.address).collect();
    let routes = routes(conf, &leases);
    let reachable: Vec<_> = routes.iter().map(|route| Route::via(route.dst, next_hop(route, &leases))).collect();
    pod::configure(&mut container, &attachment.ifname, &addresses, &reachable)?;
    Ok((Links { bridge, pod_mac }, leases))
}

/// The way back. What cannot be undone here is what DEL is for; the cause of the failure is what is told.
fn undo(conf: &NetConf, attachment: &Attachment, host: &mut Socket, made: &Made) {
    if made.veth {
        let _ = host.request(link::delete(Device::Name(&attachment.host_veth())));
    }
    if made.addresses
        && let Ok(Some(mut reservations)) = Reservations::lock_existing(&conf.data_dir, &conf.network)
    {
        let _ = reservations.release(attachment);
    }
}

/// The bridge's addresses: the gateway of each lease, in the lease's subnet.
fn gateways(conf: &NetConf, leases: &[Lease]) -> Vec<IpNetwork> {
    if !conf.bridge.is_gateway {
        return Vec::new();
    }
    let on_bridge = |lease: &Lease| IpNetwork::new(lease.gateway, lease.address.prefix()).ok();
    leases.iter().filter_map(on_bridge).collect()
}

/// The configured routes, and a default route for each family that has none through a gateway.
fn routes(conf: &NetConf, leases: &[Lease]) -> Vec<Route> {
    let mut routes = conf.routes.clone();
    routes.retain(|route| leases.iter().any(|lease| Family::of(lease.address.ip()) == route.dst.family()));
    for family in Family::BOTH.into_iter().filter(|_| conf.is_default_gateway) {
        let lease = leases.iter().find(|lease| Family::of(lease.gateway) == family);
        let is_default = |route: &Route| route.dst == family.default_route();
        if let (Some(lease), false) = (lease, routes.iter().any(is_default)) {
            routes.push(Route::via(family.default_route(), Some(lease.gateway)));
        }
    }
    routes
}

/// A route that names no next hop leads to the gateway of the first lease of its family.
fn next_hop(route: &Route, leases: &[Lease]) -> Option<IpAddr> {
    let gateway =
        || leases.iter().map(|lease| lease.gateway).find(|gateway| Family::of(*gateway) == route.dst.family());
    route.gw.or_else(gateway)
}

fn result_of(conf: &NetConf, attachment: &Attachment, sandbox: &str, links: &Links, leases: &[Lease]) -> CniResult {
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
    let ip = |lease: &Lease| Ip { address: lease.address, gateway: Some(lease.gateway), interface: Some(2) };
    CniResult {
        interfaces: vec![
            interface(conf.bridge.name.as_str(), links.bridge.mac, Some(bridge_mtu)),
            interface(host.as_str(), Some(attachment.host_mac()), mtu),
            container,
        ],
        ips: leases.iter().map(ip).collect(),
        routes: routes(conf, leases),
        dns: conf.dns.clone(),
    }
}
