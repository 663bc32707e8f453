//! CHECK: whether the attachment is as the chain's final result has it. CRI-O calls it right after each ADD.

use dataplane::link::{Kind, Link};
use dataplane::netlink::Socket;
use dataplane::types::Family;
use ipnetwork::IpNetwork;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::cni_error::{CniError, Code};
use crate::conf::plugin_conf::PluginConf;
use crate::conf::{ConfError, Document};
use crate::ipam::Reservations;
use crate::netlink::namespace::Namespace;
use crate::netlink::{bridge, pod, step, veth};
use crate::result::{CniResult, Ip};

pub(super) fn check(document: &Document, target: &Target) -> Result<(), CniError> {
    let conf = super::read_conf(document, &target.args, Code::TryAgainLater)?;
    let wanted = conf.prev_result.as_ref().ok_or(ConfError::NoPrevResult)?;
    let namespace = Namespace::open(target)?;
    let attachment = super::attachment_of(document, target);
    let (place, _) = wanted
        .interface_in(&target.netns, attachment.ifname.as_str())
        .ok_or_else(|| differs(format!("prevResult has no interface {} in {}", attachment.ifname, target.netns)))?;
    let ips: Vec<&Ip> = wanted.ips.iter().filter(|ip| ip.interface.is_none_or(|of| of == place)).collect();
    check_reservations(&conf, &attachment, &ips)?;
    let mut host = Socket::open().map_err(step("open a netlink socket"))?;
    let bridge = check_bridge(&mut host, &conf, wanted, &ips)?;
    let port = check_port(&mut host, &attachment, wanted, &bridge)?;
    let inside = || check_pod(&attachment, wanted, place, &ips, &port);
    namespace.visit(inside)
}

fn differs(what: impl Into<String>) -> CniError {
    CniError::new(Code::Differs, what)
}

fn check_reservations(conf: &PluginConf, attachment: &Attachment, ips: &[&Ip]) -> Result<(), CniError> {
    let reserved = match Reservations::lock_existing(&conf.data_dir, &conf.network)? {
        Some(reservations) => reservations.addresses_of(attachment)?,
        None => Vec::new(),
    };
    // An address that is in none of our ranges is another plugin's.
    let is_ours = |ip: &&&Ip| conf.ranges.iter().any(|set| set.range_of(ip.address.ip()).is_some());
    let ours: Vec<_> = ips.iter().filter(is_ours).collect();
    match ours.iter().find(|ip| !reserved.contains(&ip.address.ip())) {
        Some(ip) => Err(differs(format!(
            "host-local: Failed to find address added by container {}: {} is not reserved for it",
            attachment.container,
            ip.address.ip()
        ))),
        None if reserved.is_empty() => {
            Err(differs(format!("host-local: Failed to find address added by container {}", attachment.container)))
        }
        None => Ok(()),
    }
}

fn check_bridge(host: &mut Socket, conf: &PluginConf, wanted: &CniResult, ips: &[&Ip]) -> Result<Link, CniError> {
    let name = &conf.bridge.name;
    let bridge = bridge::find(host, name)?.ok_or_else(|| differs(format!("bridge {name} is gone")))?;
    if !bridge.up {
        return Err(differs(format!("bridge {name} is down")));
    }
    let expected = wanted.interfaces.iter().find(|one| one.sandbox.is_none() && one.name == name.as_str());
    check_mac(&bridge, expected.and_then(|expected| expected.mac.as_deref()))?;
    if conf.bridge.is_gateway {
        let present = host.addresses(Some(bridge.index), None).map_err(step(format!("read addresses of {name}")))?;
        for gateway in ips.iter().filter_map(|ip| IpNetwork::new(ip.gateway?, ip.address.prefix()).ok()) {
            if !present.iter().any(|one| (one.address, one.prefix_len) == (gateway.ip(), gateway.prefix())) {
                return Err(differs(format!("bridge {name} has lost its address {gateway}")));
            }
        }
    }
    Ok(bridge)
}

/// The host end: ours by its name, or the reference's by its name in the result.
fn check_port(host: &mut Socket, attachment: &Attachment, wanted: &CniResult, bridge: &Link) -> Result<Link, CniError> {
    let mut port = veth::find(host, attachment)?;
    let others = wanted.interfaces.iter().filter(|one| one.sandbox.is_none() && one.name != bridge.name.as_str());
    for name in others.filter_map(|one| one.name.parse().ok()) {
        if port.is_none() {
            port = host.link(&name).map_err(step(format!("read link {name}")))?.filter(|link| link.kind == Kind::Veth);
        }
    }
    let port = port.ok_or_else(|| differs(format!("the host end {} is gone", attachment.host_veth())))?;
    if port.master != Some(bridge.index) {
        return Err(differs(format!("{} is no port of bridge {}", port.name, bridge.name)));
    }
    if !port.up {
        return Err(differs(format!("{} is down", port.name)));
    }
    Ok(port)
}

/// The part that runs in the pod's namespace.
fn check_pod(
    attachment: &Attachment,
    wanted: &CniResult,
    place: usize,
    ips: &[&Ip],
    port: &Link,
) -> Result<(), CniError> {
    let name = &attachment.ifname;
    let mut container = Socket::open().map_err(step("open a netlink socket in the container"))?;
    let gone = || differs(format!("interface {name} is gone from the container"));
    let link = pod::find(&mut container, name)?.ok_or_else(gone)?;
    if link.kind != Kind::Veth || link.lower != Some(port.index) {
        return Err(differs(format!("interface {name} in the container is not the other end of {}", port.name)));
    }
    if !link.up {
        return Err(differs(format!("interface {name} in the container is down")));
    }
    check_mac(&link, wanted.interfaces[place].mac.as_deref())?;
    let present = container.addresses(Some(link.index), None).map_err(step(format!("read addresses of {name}")))?;
    for ip in ips {
        if !present.iter().any(|one| (one.address, one.prefix_len) == (ip.address.ip(), ip.address.prefix())) {
            return Err(differs(format!("interface {name} in the container has lost its address {}", ip.address)));
        }
    }
    check_routes(&mut container, wanted, &link)
}

fn check_routes(container: &mut Socket, wanted: &CniResult, link: &Link) -> Result<(), CniError> {
    for family in Family::BOTH {
        let mut expected = wanted.routes.iter().filter(|route| route.dst.family() == family).peekable();
        if expected.peek().is_none() {
            continue;
        }
        let present = container.routes(family).map_err(step("read the container's routes"))?;
        for route in expected {
            let is_it = |one: &&dataplane::route::Route| {
                one.destination == route.dst && (route.gw.is_none() || one.gateway == route.gw)
            };
            if !present.iter().any(|one| is_it(&one)) {
                let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
                return Err(differs(format!("the container has lost its route {}{via} on {}", route.dst, link.name)));
            }
        }
    }
    Ok(())
}

fn check_mac(link: &Link, expected: Option<&str>) -> Result<(), CniError> {
    let present = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&present) => {
            Err(differs(format!("{} has the hardware address {present} instead of {expected}", link.name)))
        }
        _ => Ok(()),
    }
}
