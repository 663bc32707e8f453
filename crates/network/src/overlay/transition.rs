//! From one backend to another without a lost packet: which tunnels stand beside the configured one, and for how long.
//!
//! Pure. A node follows two rules, whatever its peers do and in whatever order: it sends to a peer only in a encapsulation that
//! the peer has said it receives ([`super::peer_route`]), and it receives in each encapsulation that a peer says it sends by. So both ends
//! of the old way stay until nobody uses it. Two nodes must not take up and close a way past each other, however long one of
//! them stalls: who takes one up says so first and then reads what its peers receive; who closes one has said so and then
//! reads what its peers send by. Of two such, one sees the other, for the store has one order of what is written. A node that is new
//! to its peers cannot say what it receives before it does; it reads once more after that, and has pods only then. While the
//! directions of a flow may differ, strict reverse-path filters would drop one of them: they are loosened for that time and put back
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::link::Vxlan;
use dataplane::op::DeviceAddress;
use dataplane::types::{Family, IfName, Mac, PerFamily};

use super::peer_route::Tunnels;
use super::tunnel_device::{self, TunnelDevice, TunnelDeviceError};
use super::{Device, Input, Outcome};
use crate::model::{Encapsulation, EncapsulationSupport, TunnelId};
use crate::net_conf::{Backend, VxlanOptions};

/// Tunnels beside the configured one that a node takes part in. More would be a peer's mistake, not a change of backend.
const MOST_OTHERS: usize = 4;

/// What the daemon remembers of a change of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transition {
    /// Encapsulations in which nobody sends any more, but in which the last packets may still be under way.
    pub lingering: BTreeSet<Encapsulation>,
    /// The reverse-path filters that were loosened, as they were, by sysctl.
    pub loosened: BTreeMap<String, String>,
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

/// The sysctl of a link's reverse-path filter. IPv6 has none.
pub fn reverse_path_key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/rp_filter")
}

/// The configured tunnel, and those that peers speak of or this node has told them.
pub(super) fn tunnels(input: &Input<'_>) -> Result<Tunnels, TunnelDeviceError> {
    let configured = options(input);
    let own = configured.map(|options| options.tunnel());
    let leases = input.cluster.peers.values().map(AsRef::as_ref).chain([&input.cluster.own]);
    let spoken_of = leases.filter_map(|lease| lease.ways.as_ref()).flat_map(EncapsulationSupport::all_tunnels);
    let lingering = input.transition.lingering.iter().filter_map(Encapsulation::tunnel);
    let others: BTreeSet<TunnelId> = spoken_of.chain(lingering).filter(|id| Some(*id) != own).collect();
    let wanted: BTreeSet<TunnelId> = own.into_iter().chain(others.into_iter().take(MOST_OTHERS)).collect();
    let mut tunnels = Tunnels::new();
    // The configured one first: it has the usual name where two that are new could.
    for id in own.iter().chain(wanted.iter().filter(|id| Some(**id) != own)) {
        let options = configured.unwrap_or(VxlanOptions::PLAIN).of(*id);
        let families = input.cluster.own.subnets.families();
        match tunnel_device::tunnel_devices(&options, families, input.underlay) {
            Ok(tunnel_devices) => {
                let is_wanted = |other: &TunnelId| other != id && wanted.contains(other);
                let given: BTreeSet<IfName> = tunnels.values().flat_map(devices).collect();
                let placed =
                    tunnel_device::placed(&tunnel_devices, *id, input.links, &input.identity.mark, |name, holder| {
                        holder.is_some_and(|other| is_wanted(&other)) || given.contains(name)
                    });
                tunnels.insert(*id, placed);
            }
            Err(error) if Some(*id) == own => return Err(error),
            // The peers that use it are told as unreachable.
            Err(_) => {}
        }
    }
    Ok(tunnels)
}

fn devices(tunnel_devices: &PerFamily<TunnelDevice>) -> impl Iterator<Item = IfName> {
    tunnel_devices.iter().map(|(_, tunnel_device)| tunnel_device.device.clone())
}

/// What peers have been told so far.
fn published<'a>(input: &Input<'a>) -> Option<&'a EncapsulationSupport> {
    input.cluster.own.ways.as_ref()
}

fn options(input: &Input<'_>) -> Option<VxlanOptions> {
    match &input.conf.backend {
        Backend::Vxlan(options) => Some(*options),
        Backend::HostGw => None,
    }
}

/// Decides what this node receives, makes it so, and says what peers are told.
pub(super) fn receive(input: &Input<'_>, tunnels: &Tunnels, outcome: &mut Outcome) {
    let configured: BTreeSet<Encapsulation> = input.conf.backend.encapsulations().into_iter().collect();
    let sends = outcome.peer_routes.values().map(super::peer_route::PeerRoute::encapsulation);
    let sends: BTreeSet<Encapsulation> = sends.chain(outcome.unpublished.iter().copied()).collect();
    let sent_to_us =
        input.cluster.peers.values().filter_map(|peer| peer.ways.as_ref()).flat_map(|ways| ways.sends.iter());
    // Peers cannot be asked whom they send to, so each encapsulation of theirs counts.
    let receives: BTreeSet<Encapsulation> = configured.iter().chain(&sends).chain(sent_to_us).copied().collect();
    let sends = sends.into_iter().collect();
    let mut told = EncapsulationSupport {
        direct: receives.contains(&Encapsulation::Direct),
        sends,
        ..EncapsulationSupport::default()
    };
    let mut mtus = Vec::new();
    for (id, tunnel_devices) in tunnels {
        let in_use = receives.contains(&Encapsulation::Tunnel(*id));
        // What peers have been told stands until they have been told otherwise, and a little longer.
        let relied_on = published(input).is_some_and(|ways| ways.tunnels.contains_key(id));
        if in_use || relied_on || input.transition.lingering.contains(&Encapsulation::Tunnel(*id)) {
            let macs = tunnel_ends(input, *id, tunnel_devices, outcome);
            mtus.extend(tunnel_devices.iter().map(|(_, tunnel_device)| tunnel_device.mtu));
            if in_use {
                told.tunnels.insert(*id, macs);
            }
        }
    }
    outcome.pod_mtu = Some(mtus.into_iter().min().unwrap_or(input.underlay.mtu));
    outcome.settled = outcome.unpublished.is_empty() && told.receives() == configured && is_settled(input, &told);
    // With DirectRouting packets may come in by two ways for good, since each end decides by its own routes.
    outcome.one_way = outcome.settled && configured.len() == 1;
    reverse_path(input, outcome);
    outcome.advertised = told;
}

/// True where nobody can rely on more than what is told now.
fn is_settled(input: &Input<'_>, told: &EncapsulationSupport) -> bool {
    input.transition.lingering.is_empty()
        && published(input).is_none_or(|ways| ways.receives().is_subset(&told.receives()))
}

/// The devices of one tunnel, with their addresses; the hardware address for each family's pods.
fn tunnel_ends(
    input: &Input<'_>,
    id: TunnelId,
    tunnel_devices: &PerFamily<TunnelDevice>,
    outcome: &mut Outcome,
) -> PerFamily<Mac> {
    let desired = &mut outcome.desired;
    let options = options(input).unwrap_or(VxlanOptions::PLAIN);
    let mut macs = PerFamily::none();
    for (family, tunnel_device) in tunnel_devices.iter() {
        let Some(subnet) = input.cluster.own.subnets.get(family) else { continue };
        let device = desired.devices.entry(tunnel_device.device.clone()).or_insert_with(|| {
            let vxlan = Vxlan {
                vni: id.vni,
                local: input.underlay.addresses.get(tunnel_device.underlay).copied(),
                underlay: Some(input.underlay.index),
                port: id.port,
                learning: options.learning,
                gbp: options.gbp,
                foreign: false,
            };
            let mac = own_mac(input, id, family, &tunnel_device.device);
            Device { vxlan, underlay: input.underlay.ifname.clone(), mac, mtu: tunnel_device.mtu }
        });
        *macs.slot(family) = Some(device.mac);
        let (address, prefix_len) = (subnet.address(), family.bits());
        desired.addresses.insert(DeviceAddress { device: tunnel_device.device.clone(), address, prefix_len });
        if family == Family::V6 {
            for (key, value) in [("accept_ra", "0"), ("disable_ipv6", "0")] {
                desired.sysctls.insert(format!("net/ipv6/conf/{}/{key}", tunnel_device.device), value.to_owned());
            }
        }
    }
    macs
}

/// The hardware address of our end: as published for the configured tunnel, else as the device has it, or had it.
fn own_mac(input: &Input<'_>, id: TunnelId, family: Family, device: &IfName) -> Mac {
    let own = &input.cluster.own;
    let configured = options(input).is_some_and(|options| options.tunnel() == id);
    let of_lease = own.vteps.get(family).filter(|_| configured).map(|vtep| vtep.mac);
    let of_device =
        || input.links.get(device).filter(|link| tunnel_device::tunnel_of(link).is_some()).and_then(|link| link.mac);
    let told = || own.ways.as_ref().and_then(|ways| ways.tunnels.get(&id)?.get(family).copied());
    of_lease.or_else(of_device).or_else(told).unwrap_or_else(|| tunnel_device::fresh_mac(&own.node, device))
}

/// Loosens strict filters while the directions of a flow may differ, and puts them back as they were.
fn reverse_path(input: &Input<'_>, outcome: &mut Outcome) {
    let loosened = &input.transition.loosened;
    let devices = outcome.desired.devices.keys().chain([&input.underlay.ifname]);
    for device in devices {
        let key = reverse_path_key(device.as_str());
        let of = |link: &str| input.reverse_path.get(&reverse_path_key(link)).map(String::as_str);
        // A link that is not there yet begins with the default.
        let now = of(device.as_str()).or_else(|| of("default")).unwrap_or("0");
        // The kernel takes the larger of the link's own and that of all.
        let is_strict = [of("all").unwrap_or("0"), now].into_iter().max() == Some("1");
        let value = if outcome.one_way {
            loosened.get(&key).cloned()
        } else {
            if is_strict && !loosened.contains_key(&key) {
                outcome.loosens.insert(key.clone(), now.to_owned());
            }
            (is_strict || loosened.contains_key(&key)).then(|| "2".to_owned())
        };
        outcome.desired.sysctls.extend(value.map(|value| (key, value)));
    }
}
