//! The observed and the desired state as far as some places go, so that a plan for these costs what they cost.
//!
//! Pure. What is left out is the same on both sides, so the plan has nothing to say of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::nft::Table;
use dataplane::op::{DeviceRoute, Op};
use dataplane::types::{Family, IfName, Mac, Prefix};

use crate::mirror::Keys;
use crate::observe::Observed;
use crate::overlay::{Desired, masquerade};
use crate::plan::Plan;

impl Observed {
    /// The routes to one destination.
    pub fn routes_to(&self, destination: Prefix) -> impl Iterator<Item = &DeviceRoute> {
        let from = self.routes.range(DeviceRoute::least_to(destination)..);
        from.take_while(move |route| route.destination == destination)
    }

    /// The tunnel ends of one hardware address.
    pub fn ends_of<'o>(
        &'o self,
        device: &IfName,
        mac: Mac,
    ) -> impl Iterator<Item = &'o (IfName, Mac, IpAddr)> + use<'o> {
        let least = (device.clone(), mac, IpAddr::from([0, 0, 0, 0]));
        let device = device.clone();
        self.fdb.range(least..).take_while(move |entry| entry.0 == device && entry.1 == mac)
    }

    /// What there is at these places, without our table.
    #[must_use]
    pub fn part(&self, keys: &Keys, desired: &Desired) -> Self {
        let links = desired.devices.keys().filter_map(|name| Some((name.clone(), self.links.get(name)?.clone())));
        let neighbours = keys.neighbours.iter().filter_map(|key| Some((key.clone(), *self.neighbours.get(key)?)));
        Self {
            links: links.collect(),
            addresses: if keys.devices { self.addresses.clone() } else { desired.addresses.clone() },
            neighbours: neighbours.collect(),
            fdb: keys.fdb.iter().flat_map(|(device, mac)| self.ends_of(device, *mac)).cloned().collect(),
            routes: keys.routes.iter().flat_map(|destination| self.routes_to(*destination)).cloned().collect(),
            sysctls: BTreeMap::new(),
            table: None,
            accepts: Vec::new(),
            leftovers: Vec::new(),
        }
    }
}

impl Desired {
    /// What should be at these places.
    #[must_use]
    pub fn part(&self, keys: &Keys) -> Self {
        let neighbours = keys.neighbours.iter().filter_map(|key| Some((key.clone(), *self.neighbours.get(key)?)));
        let fdb = keys.fdb.iter().filter_map(|key| Some((key.clone(), *self.fdb.get(key)?)));
        let routes = keys.routes.iter().filter_map(|key| Some((*key, self.routes.get(key)?.clone())));
        Self {
            devices: self.devices.clone(),
            addresses: self.addresses.clone(),
            neighbours: neighbours.collect(),
            fdb: fdb.collect(),
            routes: routes.collect(),
            sysctls: BTreeMap::new(),
            preconditions: Vec::new(),
            table: narrowed(self.table.as_ref(), keys),
            accepts: Vec::new(),
        }
    }
}

fn narrowed(table: Option<&Table>, keys: &Keys) -> Option<Table> {
    table.filter(|_| !keys.nodes.is_empty()).map(|table| table.narrowed(&masquerade::keys(&keys.nodes)))
}

impl Keys {
    /// With the places of the routes that lead to next hops of these: for IPv6, they decide how a route can be put.
    #[must_use]
    pub fn widened(mut self, observed: &Observed, desired: &Desired) -> Self {
        let wanted = self.routes.iter().filter_map(|destination| desired.routes.get(destination));
        let hops: Vec<_> =
            wanted.filter_map(|route| route.gateway.filter(|hop| route.onlink && hop.is_ipv6())).collect();
        for hop in hops {
            let ranges = (1..=Family::V6.bits()).filter_map(|len| Prefix::new(hop, len));
            self.routes.extend(ranges.filter(|range| observed.routes_to(*range).next().is_some()));
        }
        self
    }
}

impl Plan {
    /// True where it changes nothing but entries: what a device, a rule or somebody else's object has to do with is for a
    /// run that has read everything.
    pub fn is_of_entries(&self) -> bool {
        let of_entry = |op: &Op| match op {
            Op::PutNeighbour { .. }
            | Op::DeleteNeighbour { .. }
            | Op::PutFdb { .. }
            | Op::DeleteFdb { .. }
            | Op::AddRoute(_)
            | Op::ReplaceRoute(_)
            | Op::DeleteRoute(_) => true,
            Op::Nft(transaction) => transaction.is_of_elements(),
            Op::AddTunnel { .. }
            | Op::AddBridge { .. }
            | Op::SetPort { .. }
            | Op::SetHairpin(_)
            | Op::SetLink { .. }
            | Op::DeleteLink(_)
            | Op::AddAddress(_)
            | Op::DeleteAddress(_)
            | Op::SetSysctl { .. } => false,
        };
        self.conflicts.is_empty() && self.ops.iter().all(of_entry)
    }
}
