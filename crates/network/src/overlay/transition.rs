//! From one backend to another without a lost packet: which tunnels stand beside the configured one, and for how long.
//!
//! Pure. A node follows two rules, whatever its peers do and in whatever order. It sends to a peer only in an encapsulation that the
//! peer has published as received ([`super::peer_route`]). It receives in each encapsulation of its present and former configurations
//! that a peer has published as sent. So both ends of the former tunnel stay until no node sends in it.
//!
//! One node may start to send in an encapsulation while another stops receiving it, however long one of them stalls. A node that starts
//! to send first publishes the encapsulation, then reads what its peers receive. A node that stops receiving first publishes that, then
//! reads what its peers send. The store orders the two writes, so one of the two nodes sees the other's. A new node cannot publish
//! before its peers know it; it reads the peers' leases once more after its first publication, and has pods only then.
//!
//! While the two directions of a flow may take different routes, strict reverse-path filters would drop one direction. The filters are
//! relaxed for that time and restored afterwards.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::link::Link;
use dataplane::op::DeviceAddress;
use dataplane::types::{Family, IfName, Mac, PerFamily};

use super::peer_route::Tunnels;
use super::{Device, Identity, Input, Outcome};
use crate::backend::{
    Backend, BackendData, Encapsulation, TunnelDevice, TunnelDeviceError, encapsulation_of, tunnel_device,
};
use crate::model::{Cluster, EncapsulationSupport};

/// What the daemon remembers of a change of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transition {
    /// Encapsulations in which no node sends any more, but in which the last packets may still be under way.
    pub draining: BTreeSet<Encapsulation>,
    /// The reverse-path filters that were relaxed, with their former values, by sysctl.
    pub relaxed_rp_filter: BTreeMap<String, String>,
    /// Tunnels for which this kernel has no devices, with the kind of device. Peers that receive in no other encapsulation cannot be
    /// reached.
    pub unsupported: BTreeMap<Encapsulation, &'static str>,
    /// The encapsulations by which this node may send: it has published that, and read after that what its peers receive. `None` for a
    /// node that has published nothing yet: it may send by any.
    pub may_send: Option<BTreeSet<Encapsulation>>,
}

impl Transition {
    /// True where this node may send by `encapsulation` now.
    pub fn may_send_by(&self, encapsulation: &Encapsulation) -> bool {
        self.may_send.as_ref().is_none_or(|may_send| may_send.contains(encapsulation))
    }
}

/// The encapsulations of former configurations of which something is left: they are published, draining, or have a device by which a
/// peer sends.
///
/// A node that joins during a change has no former configuration. What its peers name is nothing that it opens: peers that have not read
/// the new configuration yet and this node reach each other when these peers have changed. Until then each names the other.
pub(super) fn former(
    backend: &Backend,
    cluster: &Cluster,
    draining: &BTreeSet<Encapsulation>,
    ours: impl IntoIterator<Item = Encapsulation>,
) -> BTreeSet<Encapsulation> {
    let supports = || cluster.peers.values().filter_map(|peer| peer.encapsulations.as_ref());
    let ours = ours.into_iter().filter(|ours| supports().any(|support| support.sends.contains(ours)));
    let published = cluster.own.encapsulations.iter().flat_map(EncapsulationSupport::all);
    let configured = backend.encapsulations();
    let all = published.chain(draining.iter().copied()).chain(ours);
    all.filter(|encapsulation| !configured.contains(encapsulation)).collect()
}

/// The tunnels of this node's present and former configurations, the configured one first: it has the usual name where two that are new
/// could.
pub fn tunnels_in_use(
    backend: &Backend,
    cluster: &Cluster,
    draining: &BTreeSet<Encapsulation>,
    links: &BTreeMap<IfName, Link>,
    identity: &Identity,
) -> Vec<Encapsulation> {
    let configured = backend.encapsulations();
    let others = former(backend, cluster, draining, devices_of(links, identity));
    configured.into_iter().chain(others).filter(|encapsulation| !encapsulation.is_direct()).collect()
}

/// The tunnels of which this node has devices.
pub(super) fn devices_of<'l>(
    links: &'l BTreeMap<IfName, Link>,
    identity: &'l Identity,
) -> impl Iterator<Item = Encapsulation> {
    let ours = links.values().filter(|link| identity.owns(link));
    ours.filter_map(|link| Some(encapsulation_of(link)?.0))
}

/// The sysctl of a link's reverse-path filter. IPv6 has none.
pub fn reverse_path_key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/rp_filter")
}

/// The devices of the tunnels of this node's present and former configurations.
pub(super) fn tunnels(input: &Input<'_>) -> Result<Tunnels, TunnelDeviceError> {
    let (backend, transition) = (&input.conf.backend, input.transition);
    let configured = backend.encapsulations();
    let mut wanted = tunnels_in_use(backend, input.cluster, &transition.draining, input.links, input.identity);
    // Without the device, the peers that receive in nothing else are reported as unreachable.
    wanted.retain(|encapsulation| {
        configured.contains(encapsulation) || !transition.unsupported.contains_key(encapsulation)
    });
    let pods: Vec<Family> = input.cluster.own.subnets.families().collect();
    let mut tunnels = Tunnels::new();
    for encapsulation in &wanted {
        match encapsulation.tunnel_devices(backend, &pods, input.underlay) {
            Ok(usual) => drop(tunnels.insert(*encapsulation, named(input, &usual, *encapsulation, &wanted, &tunnels))),
            Err(error) if configured.contains(encapsulation) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(tunnels)
}

/// The devices with the names that they have on this host. Two tunnels may have one usual name. Then the second one gets another name,
/// and its device keeps that name for as long as it is there.
fn named(
    input: &Input<'_>,
    devices: &PerFamily<TunnelDevice>,
    encapsulation: Encapsulation,
    wanted: &[Encapsulation],
    before: &Tunnels,
) -> PerFamily<TunnelDevice> {
    let ours = |name: &IfName| {
        let link = input.links.get(name).filter(|link| input.identity.owns(link))?;
        encapsulation_of(link)
    };
    let is_given = |name: &IfName| before.values().flat_map(PerFamily::iter).any(|(_, other)| other.device == *name);
    devices.map(|_, usual| {
        let holder = ours(&usual.device).map(|(holder, _)| holder);
        let is_held = holder.is_some_and(|holder| holder != encapsulation && wanted.contains(&holder));
        let is_there = |name: &IfName| ours(name) == Some((encapsulation, usual.underlay));
        let other = encapsulation.other_name(usual.underlay);
        let other = other.filter(|name| is_held || is_given(&usual.device) || is_there(name));
        TunnelDevice { device: other.unwrap_or_else(|| usual.device.clone()), ..usual.clone() }
    })
}

/// What peers have read of this node so far.
fn published<'a>(input: &Input<'a>) -> Option<&'a EncapsulationSupport> {
    input.cluster.own.encapsulations.as_ref()
}

/// Decides what this node receives, wants the devices for it, and says what to publish.
pub(super) fn receive(input: &Input<'_>, tunnels: &Tunnels, former: &BTreeSet<Encapsulation>, outcome: &mut Outcome) {
    let configured: BTreeSet<Encapsulation> = input.conf.backend.encapsulations().into_iter().collect();
    let sends = outcome.peer_routes.values().map(|route| route.encapsulation);
    let sends: BTreeSet<Encapsulation> = sends.chain(outcome.unpublished.iter().copied()).collect();
    let leases = input.cluster.peers.values().filter_map(|peer| peer.encapsulations.as_ref());
    // Leases do not say to whom a peer sends, so each encapsulation of a peer counts.
    let sent_to_us = leases.flat_map(|support| &support.sends).filter(|sent| former.contains(sent));
    let receives: BTreeSet<Encapsulation> = configured.iter().chain(&sends).chain(sent_to_us).copied().collect();
    let mut advertised = EncapsulationSupport { sends, ..EncapsulationSupport::default() };
    let direct = receives.iter().filter(|encapsulation| encapsulation.is_direct());
    advertised.receives.extend(direct.map(|direct| (*direct, PerFamily::none())));
    let mut mtus = Vec::new();
    for (encapsulation, devices) in tunnels {
        let in_use = receives.contains(encapsulation);
        // Peers rely on what was published until they have read something else, and a little longer.
        let relied_on = published(input).is_some_and(|support| support.receives.contains_key(encapsulation));
        if in_use || relied_on || input.transition.draining.contains(encapsulation) {
            let macs = tunnel_ends(input, *encapsulation, devices, outcome);
            mtus.extend(devices.iter().map(|(_, device)| device.mtu));
            if in_use {
                advertised.receives.insert(*encapsulation, macs);
            }
        }
    }
    outcome.pod_mtu = Some(mtus.into_iter().min().unwrap_or(input.underlay.mtu));
    // No peer relies on more than what is published now.
    let is_advertised = |encapsulation| advertised.receives.contains_key(encapsulation);
    let has_ended = input.transition.draining.is_empty()
        && published(input).is_none_or(|former| former.receives.keys().all(is_advertised));
    outcome.settled = outcome.unpublished.is_empty() && advertised.receives.keys().eq(&configured) && has_ended;
    // With DirectRouting packets may come in by two routes for good, since each end decides by its own routing table.
    outcome.one_way = outcome.settled && configured.len() == 1;
    reverse_path(input, outcome);
    outcome.advertised = advertised;
}

/// Wants the devices of one tunnel, with their addresses; gives the hardware address for each family's pods.
fn tunnel_ends(
    input: &Input<'_>,
    encapsulation: Encapsulation,
    devices: &PerFamily<TunnelDevice>,
    outcome: &mut Outcome,
) -> PerFamily<Mac> {
    let desired = &mut outcome.desired;
    let mut macs = PerFamily::none();
    for (family, TunnelDevice { device: name, underlay, mtu }) in devices.iter() {
        let Some(subnet) = input.cluster.own.subnets.get(family) else { continue };
        let local = input.underlay.addresses.get(*underlay).copied();
        let Some(tunnel) = encapsulation.tunnel(&input.conf.backend, local, input.underlay) else { continue };
        // IPv4's and IPv6's pods may share a device.
        let device = desired.devices.entry(name.clone()).or_insert_with(|| Device {
            tunnel,
            underlay: input.underlay.ifname.clone(),
            mac: encapsulation.has_mac().then(|| own_mac(input, encapsulation, family, name)),
            mtu: *mtu,
        });
        *macs.slot(family) = device.mac;
        desired.sysctls.insert(format!("net/ipv4/conf/{name}/forwarding"), "1".to_owned());
        let (address, prefix_len) = (subnet.address(), family.bits());
        desired.addresses.insert(DeviceAddress { device: name.clone(), address, prefix_len });
        if family == Family::V6 {
            for (key, value) in [("accept_ra", "0"), ("disable_ipv6", "0")] {
                desired.sysctls.insert(format!("net/ipv6/conf/{name}/{key}"), value.to_owned());
            }
        }
    }
    macs
}

/// The hardware address of this node's end: as published for the configured tunnel, else as the device has it, or had it.
fn own_mac(input: &Input<'_>, encapsulation: Encapsulation, family: Family, device: &IfName) -> Mac {
    let own = &input.cluster.own;
    let is_configured = input.conf.backend.encapsulations().contains(&encapsulation);
    let of_lease = own.data.get(family).filter(|_| is_configured).and_then(BackendData::mac);
    let of_device = || input.links.get(device).filter(|link| encapsulation_of(link).is_some())?.mac;
    let advertised = || published(input)?.receives.get(&encapsulation)?.get(family).copied();
    of_lease.or_else(of_device).or_else(advertised).unwrap_or_else(|| tunnel_device::fresh_mac(&own.node, device))
}

/// Relaxes strict filters while the directions of a flow may differ, and restores them afterwards.
fn reverse_path(input: &Input<'_>, outcome: &mut Outcome) {
    let relaxed = &input.transition.relaxed_rp_filter;
    let devices = outcome.desired.devices.keys().chain([&input.underlay.ifname]);
    for device in devices {
        let key = reverse_path_key(device.as_str());
        let of = |link: &str| input.reverse_path.get(&reverse_path_key(link)).map(String::as_str);
        // A link that is not there yet begins with the default.
        let now = of(device.as_str()).or_else(|| of("default")).unwrap_or("0");
        // The kernel takes the larger of the link's own and that of all.
        let is_strict = [of("all").unwrap_or("0"), now].into_iter().max() == Some("1");
        let former = relaxed.get(&key);
        if !outcome.one_way && is_strict && former.is_none() {
            outcome.relaxes.insert(key.clone(), now.to_owned());
        }
        let value =
            if outcome.one_way { former.cloned() } else { (is_strict || former.is_some()).then(|| "2".to_owned()) };
        outcome.desired.sysctls.extend(value.map(|value| (key, value)));
    }
}
