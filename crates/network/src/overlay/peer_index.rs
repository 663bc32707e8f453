//! The part of the desired state that follows from peers: each peer is added to it, and removed from it, alone.
//!
//! Pure. A full build adds all peers. A change removes the former leases of the peers that changed and adds their present ones; where
//! more follows from the change than these peers' entries, only a full build is right.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::types::{Family, IfName, Prefix};

use super::peer_route::{self, Tunnels};
use super::transition::{self, Transition};
use super::{Desired, Input, Outcome};
use crate::backend::{Entries, NoPeerRoute, PeerRoute};
use crate::key::Key;
use crate::model::{Encapsulation, EncapsulationSupport, Lease, PeerChange};
use crate::net_conf::NetConf;
use crate::on_link::OnLink;
use crate::value::Value;

/// What the routes to peers follow from beside the peers' own leases, and what depends on all peers together.
#[derive(Debug, Clone)]
pub struct PeerIndex {
    conf: NetConf,
    configured: BTreeSet<Encapsulation>,
    /// The encapsulations of former configurations of which something is left ([`transition::former`]).
    pub(super) former: BTreeSet<Encapsulation>,
    underlay: IfName,
    pub(super) tunnels: Tunnels,
    on_link: OnLink,
    transition: Transition,
    /// To how many ranges packets travel in each encapsulation.
    encapsulations: BTreeMap<Encapsulation, usize>,
}

/// The values that keys had before a change of the desired state; none are recorded for a full build.
pub type FormerValues = Option<BTreeMap<Key, Value>>;

impl PeerIndex {
    /// Without peers.
    pub(super) fn new(input: &Input<'_>, tunnels: Tunnels) -> Self {
        let (backend, draining) = (&input.conf.backend, &input.transition.draining);
        let ours = transition::devices_of(input.links, input.identity);
        Self {
            conf: input.conf.clone(),
            configured: backend.encapsulations().into_iter().collect(),
            former: transition::former(backend, input.cluster, draining, ours),
            underlay: input.underlay.ifname.clone(),
            tunnels,
            transition: input.transition.clone(),
            on_link: OnLink::new(input.routes, input.underlay.index),
            encapsulations: BTreeMap::new(),
        }
    }

    /// True where routes of others decide which route packets to peers take.
    pub fn follows_routes(&self) -> bool {
        self.configured.iter().chain(self.encapsulations.keys()).any(Encapsulation::is_direct)
    }

    /// Changes `outcome` as the changes of peers require; false where more follows from them than these peers' entries, so that only a
    /// full build is right.
    pub fn update(&mut self, changes: &[PeerChange], outcome: &mut Outcome, former: &mut FormerValues) -> bool {
        let sends = |index: &Self| index.encapsulations.keys().copied().collect::<Vec<_>>();
        let before = sends(self);
        let mut is_local = true;
        // Every former lease goes first: a range may pass from one node to another.
        for lease in changes.iter().filter_map(|change| change.former.as_ref()) {
            is_local &= self.is_as_configured(lease) && self.remove(lease, outcome, former);
        }
        for lease in changes.iter().filter_map(|change| change.now.as_ref()) {
            is_local &= self.is_as_configured(lease) && self.add(lease, outcome, former);
        }
        // In which encapsulations this node sends is advertised to its peers.
        is_local && sends(self) == before
    }

    /// Adds a peer; false where packets to it take no route, or another one than configured.
    pub fn add(&mut self, lease: &Lease, outcome: &mut Outcome, former: &mut FormerValues) -> bool {
        let mut is_as_configured = true;
        for family in lease.subnets.families() {
            let pods = (lease.node.clone(), family);
            match self.route_to(lease, family, outcome) {
                Ok((route, instead)) => {
                    is_as_configured &= self.configured.contains(&route.encapsulation);
                    // A peer that has not changed its backend yet will: nothing for a person to do.
                    if let Some(reason) = instead.filter(NoPeerRoute::is_lasting) {
                        outcome.degraded.insert(pods.clone(), reason);
                        is_as_configured = false;
                    }
                    self.set_route(route, lease, family, true, &mut outcome.desired, former);
                    outcome.peer_routes.insert(pods, route);
                }
                // The peer waits for this node's publication. Where that fails, the failure is reported.
                Err(reason) if reason.awaits_publication() => is_as_configured = false,
                Err(reason) => {
                    outcome.unreachable.insert(pods, reason);
                    is_as_configured = false;
                }
            }
        }
        // What this node is about to send by is published first, and a full build says what to publish.
        is_as_configured && outcome.unpublished.is_empty()
    }

    /// The route to a peer's pods, with the reason where it is not as configured. An encapsulation that peers do not know yet to be used
    /// by this node is noted as unpublished, and another one is taken meanwhile.
    fn route_to(
        &self,
        lease: &Lease,
        family: Family,
        outcome: &mut Outcome,
    ) -> Result<(PeerRoute, Option<NoPeerRoute>), NoPeerRoute> {
        let to = |may_send: &dyn Fn(&Encapsulation) -> bool| {
            peer_route::to(&self.conf, &self.tunnels, lease, family, &self.on_link, &self.former, may_send)
        };
        let chosen = to(&|_| true);
        match &chosen {
            Ok((route, _)) if !self.transition.may_send_by(&route.encapsulation) => {
                outcome.unpublished.insert(route.encapsulation);
                to(&|encapsulation| self.transition.may_send_by(encapsulation))
            }
            _ => chosen,
        }
    }

    /// Removes a peer; false where packets to it took no route, or another one than configured.
    fn remove(&mut self, lease: &Lease, outcome: &mut Outcome, former: &mut FormerValues) -> bool {
        let mut is_as_configured = true;
        for family in lease.subnets.families() {
            let pods = (lease.node.clone(), family);
            is_as_configured &= outcome.degraded.remove(&pods).is_none() & outcome.unreachable.remove(&pods).is_none();
            if let Some(route) = outcome.peer_routes.remove(&pods) {
                self.set_route(route, lease, family, false, &mut outcome.desired, former);
            }
        }
        is_as_configured
    }

    /// Puts the entries that one range of pods needs into the desired state, or takes them out.
    fn set_route(
        &mut self,
        route: PeerRoute,
        lease: &Lease,
        family: Family,
        is_wanted: bool,
        desired: &mut Desired,
        former: &mut FormerValues,
    ) {
        count(&mut self.encapsulations, route.encapsulation, is_wanted);
        let entries = lease.subnets.get(family).and_then(|subnet| self.entries(route, *subnet));
        let Some(Entries { route, tunnel }) = entries else { return };
        record(former, desired, || Key::Route(route.destination));
        if let Some(((neighbour, mac), (end, endpoint))) = tunnel {
            record(former, desired, || Key::Neighbour(neighbour.0.clone(), neighbour.1));
            record(former, desired, || Key::Fdb(end.0.clone(), end.1));
            put(&mut desired.neighbours, neighbour, mac, is_wanted);
            put(&mut desired.fdb, end, endpoint, is_wanted);
        }
        put(&mut desired.routes, route.destination, route, is_wanted);
    }

    /// The entries for one range of pods; none for a tunnel that this node does not have.
    fn entries(&self, route: PeerRoute, subnet: Prefix) -> Option<Entries> {
        let device = match self.tunnels.get(&route.encapsulation) {
            Some(devices) => devices.get(subnet.family())?.device.clone(),
            None => route.is_direct().then(|| self.underlay.clone())?,
        };
        Some(route.encapsulation.entries(&route, subnet, device))
    }

    /// True where the peer speaks of nothing that is left of a former configuration here: no tunnel has to be kept for it.
    fn is_as_configured(&self, lease: &Lease) -> bool {
        let named = lease.encapsulations.iter().flat_map(EncapsulationSupport::all);
        self.former.is_empty() || !named.into_iter().any(|encapsulation| self.former.contains(&encapsulation))
    }
}

/// The desired value of a key is about to change.
fn record(former: &mut FormerValues, desired: &Desired, key: impl FnOnce() -> Key) {
    if let Some(former) = former {
        let key = key();
        let value = desired.value(&key);
        former.entry(key).or_insert(value);
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, is_more: bool) {
    let before = counts.get(&key).copied().unwrap_or(0);
    match if is_more { before + 1 } else { before.saturating_sub(1) } {
        0 => drop(counts.remove(&key)),
        now => drop(counts.insert(key, now)),
    }
}

/// Puts a value, or takes it out; another value at the key is another owner's, and stays.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V, is_wanted: bool) {
    if is_wanted {
        map.insert(key, value);
    } else if map.get(&key) == Some(&value) {
        map.remove(&key);
    }
}
