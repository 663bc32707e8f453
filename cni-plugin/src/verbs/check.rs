//! CHECK: whether the attachment is as the chain's final result has it. CRI-O calls it right after each ADD.

use dataplane::link::{Kind, Link};
use dataplane::netlink::RouteSocket;
use dataplane::types::Family;
use ipnetwork::IpNetwork;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::conf::plugin_conf::PluginConf;
use crate::ipam;
use crate::netlink::namespace::Namespace;
use crate::netlink::{bridge, on_link, pod, step, veth};
use crate::result::{CniResult, Ip};

pub(super) fn check(document: &Document, target: &Target) -> Result<(), CniError> {
    let conf = super::read_conf(document, &target.args, Code::TryAgainLater)?;
    let no_result = || CniError::new(Code::InvalidConfiguration, "required prevResult missing");
    let wanted = conf.prev_result.as_ref().ok_or_else(no_result)?;
    let namespace = Namespace::open(target)?;
    let attachment = super::attachment_of(document, target);
    let (place, _) = wanted
        .interface_in(&target.netns, attachment.ifname.as_str())
        .ok_or_else(|| differs(format!("prevResult has no interface {} in {}", attachment.ifname, target.netns)))?;
    let ips: Vec<&Ip> = wanted.ips.iter().filter(|ip| ip.interface.is_none_or(|of| of == place)).collect();
    check_reservations(&conf, &attachment, &ips)?;
    let mut host = RouteSocket::open().map_err(step("open a netlink socket"))?;
    let bridge = check_bridge(&mut host, &conf, wanted, &ips)?;
    let port = check_port(&mut host, &attachment, wanted, &bridge)?;
    let inside = || check_pod(&attachment, wanted, place, &ips, &port);
    namespace.visit(inside)
}

fn differs(what: impl Into<String>) -> CniError {
    CniError::new(Code::Differs, what)
}

/// Fails with `otherwise`, the difference, where an expectation does not hold.
fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), CniError> {
    if holds { Ok(()) } else { Err(differs(otherwise())) }
}

/// The addresses of a link.
fn addresses(socket: &mut RouteSocket, link: &Link) -> Result<Vec<IpNetwork>, CniError> {
    let addresses =
        socket.addresses(Some(link.index), None).map_err(step(format_args!("read addresses of {}", link.name)))?;
    Ok(addresses.iter().filter_map(on_link).collect())
}

fn check_reservations(conf: &PluginConf, attachment: &Attachment, ips: &[&Ip]) -> Result<(), CniError> {
    let reserved = ipam::addresses_of(&conf.data_dir, attachment)?;
    let failed = format!("host-local: Failed to find address added by container {}", attachment.container);
    for address in ips.iter().map(|ip| ip.address.ip()) {
        // An address that is in none of our ranges is another plugin's.
        let is_ours = conf.ranges.iter().any(|set| set.range_of(address).is_some());
        expect(!is_ours || reserved.contains(&address), || format!("{failed}: {address} is not reserved for it"))?;
    }
    expect(!reserved.is_empty(), || failed)
}

fn check_bridge(host: &mut RouteSocket, conf: &PluginConf, wanted: &CniResult, ips: &[&Ip]) -> Result<Link, CniError> {
    let name = &conf.bridge.name;
    let bridge = bridge::find(host, name)?.ok_or_else(|| differs(format!("bridge {name} is gone")))?;
    expect(bridge.up, || format!("bridge {name} is down"))?;
    let expected = wanted.interfaces.iter().find(|one| one.sandbox.is_none() && one.name == name.as_str());
    check_mac(&bridge, expected.and_then(|expected| expected.mac.as_deref()))?;
    if conf.bridge.is_gateway {
        let present = addresses(host, &bridge)?;
        for gateway in ips.iter().filter_map(|ip| ip.gateway_on_link()) {
            expect(present.contains(&gateway), || format!("bridge {name} has lost its address {gateway}"))?;
        }
    }
    Ok(bridge)
}

/// The host end: ours by its name, or the reference's by its name in the result.
fn check_port(
    host: &mut RouteSocket,
    attachment: &Attachment,
    wanted: &CniResult,
    bridge: &Link,
) -> Result<Link, CniError> {
    let mut port = veth::find(host, attachment)?;
    let others = wanted.interfaces.iter().filter(|one| one.sandbox.is_none() && one.name != bridge.name.as_str());
    for name in others.filter_map(|one| one.name.parse().ok()) {
        if port.is_none() {
            port = host
                .link(&name)
                .map_err(step(format_args!("read link {name}")))?
                .filter(|link| link.kind == Kind::Veth);
        }
    }
    let port = port.ok_or_else(|| differs(format!("the host end {} is gone", attachment.host_veth())))?;
    let is_port = port.master == Some(bridge.index);
    expect(is_port, || format!("{} is no port of bridge {}", port.name, bridge.name))?;
    expect(port.up, || format!("{} is down", port.name))?;
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
    let mut container = RouteSocket::open().map_err(step("open a netlink socket in the container"))?;
    let gone = || differs(format!("interface {name} is gone from the container"));
    let link = pod::find(&mut container, name)?.ok_or_else(gone)?;
    let is_peer = link.kind == Kind::Veth && link.lower == Some(port.index);
    expect(is_peer, || format!("interface {name} in the container is not the other end of {}", port.name))?;
    expect(link.up, || format!("interface {name} in the container is down"))?;
    check_mac(&link, wanted.interfaces[place].mac.as_deref())?;
    let present = addresses(&mut container, &link)?;
    for Ip { address, .. } in ips {
        let lost = || format!("interface {name} in the container has lost its address {address}");
        expect(present.contains(address), lost)?;
    }
    check_routes(&mut container, wanted, &link)
}

fn check_routes(container: &mut RouteSocket, wanted: &CniResult, link: &Link) -> Result<(), CniError> {
    for family in Family::BOTH {
        let mut expected = wanted.routes.iter().filter(|route| route.dst.family() == family).peekable();
        if expected.peek().is_none() {
            continue;
        }
        let present = container.routes(family).map_err(step("read the container's routes"))?;
        for route in expected {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let is_there = present
                .iter()
                .any(|one| one.destination == route.dst && (route.gw.is_none() || one.gateway == route.gw));
            expect(is_there, || format!("the container has lost its route {}{via} on {}", route.dst, link.name))?;
        }
    }
    Ok(())
}

fn check_mac(link: &Link, expected: Option<&str>) -> Result<(), CniError> {
    let Some(expected) = expected else { return Ok(()) };
    let present = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let other = || format!("{} has the hardware address {present} instead of {expected}", link.name);
    expect(expected.eq_ignore_ascii_case(&present), other)
}
