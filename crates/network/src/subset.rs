//! The observed and the desired state of some keys, so that a plan for these costs what they cost.
//!
//! Pure. Whatever is left out is the same in both subsets, so the plan has no op for it.

use std::collections::BTreeSet;

use dataplane::op::Op;
use dataplane::types::{Family, Prefix};

use crate::kernel_view::{Engine, KernelView};
use crate::key::Key;
use crate::observe::Observed;
use crate::overlay::Desired;
use crate::plan::Plan;
use crate::value::Item;

/// What the kernel has for these keys: the desired values, but for the deviations.
pub(crate) fn observed(keys: &BTreeSet<Key>, engine: &Engine, desired: &Desired, view: &KernelView) -> Observed {
    let links = desired.devices.keys().filter_map(|name| Some((name.clone(), view.links.get(name)?.clone())));
    let mut observed = Observed { links: links.collect(), addresses: desired.addresses.clone(), ..Observed::default() };
    for key in keys {
        let value = engine.deviations().get(key).cloned().unwrap_or_else(|| desired.value(key));
        for item in value {
            match (key, item) {
                (Key::Neighbour(device, address), Item::Mac(mac)) => {
                    observed.neighbours.insert((device.clone(), *address), mac);
                }
                (Key::Fdb(device, mac), Item::Endpoint(endpoint)) => {
                    observed.fdb.insert((device.clone(), *mac, endpoint));
                }
                (Key::Route(_), Item::Route(route)) => drop(observed.routes.insert(route)),
                _ => {}
            }
        }
    }
    observed
}

impl Desired {
    /// What the kernel should have for these keys.
    #[must_use]
    pub fn subset(&self, keys: &BTreeSet<Key>) -> Self {
        let mut subset = Self { devices: self.devices.clone(), addresses: self.addresses.clone(), ..Self::default() };
        for (key, item) in keys.iter().flat_map(|key| self.value(key).into_iter().map(move |item| (key, item))) {
            match (key, item) {
                (Key::Neighbour(device, address), Item::Mac(mac)) => {
                    subset.neighbours.insert((device.clone(), *address), mac);
                }
                (Key::Fdb(device, mac), Item::Endpoint(endpoint)) => {
                    subset.fdb.insert((device.clone(), *mac), endpoint);
                }
                (Key::Route(destination), Item::Route(route)) => drop(subset.routes.insert(*destination, route)),
                _ => {}
            }
        }
        subset
    }
}

/// Adds the keys of the routes that lead to the next hops of routes among these keys: for IPv6, they decide how a route can be put.
pub(crate) fn widen(keys: &mut BTreeSet<Key>, engine: &Engine, desired: &Desired) {
    let destinations = keys.iter().filter_map(|key| if let Key::Route(to) = key { Some(to) } else { None });
    let wanted = destinations.filter_map(|destination| desired.routes.get(destination));
    let hops: Vec<_> = wanted.filter_map(|route| route.gateway.filter(|hop| route.onlink && hop.is_ipv6())).collect();
    for hop in hops {
        let ranges = (1..=Family::V6.bits()).filter_map(|len| Prefix::new(hop, len));
        let known = ranges.filter(|range| {
            desired.routes.contains_key(range) || engine.deviations().get(&Key::Route(*range)).is_some()
        });
        keys.extend(known.map(Key::Route));
    }
}

impl Plan {
    /// True where the plan changes nothing but entries. An op on a device, a rule or an object of somebody else is for a run after a
    /// dump.
    pub fn is_of_entries(&self) -> bool {
        let of_entry = |op: &Op| reconcile::ObjectKey::is_incremental(&Key::of(op));
        self.conflicts.is_empty() && self.ops.iter().all(of_entry)
    }
}
