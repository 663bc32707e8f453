//! The difference between what is and what should be, as a list of ops in a safe order.
//!
//! Pure. Make before break: what is new stands before what is old goes. A peer is added in the order neighbour, FDB entry,
//! route, so that no packet finds a route that leads nowhere, and removed in reverse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataplane::link::{Kind, Link};
use dataplane::nft::{Change, Rule};
use dataplane::op::{DeviceRoute, LinkChange, Op};
use dataplane::words::{IfName, Prefix};

use crate::observe::Observed;
use crate::overlay::{Desired, Device, Identity, PROTOCOL};

/// What to do, in this order, and what cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The changes.
    pub ops: Vec<Op>,
    /// Places where something of ours should be and something of somebody else's stands.
    pub conflicts: Vec<Conflict>,
}

/// Something that is not ours stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Conflict {
    /// A route to one of our destinations.
    #[error("route {wanted} cannot be added, since another one is there that is not ours: ip route delete {present}")]
    Route {
        /// Ours.
        wanted: Box<DeviceRoute>,
        /// Theirs.
        present: Box<DeviceRoute>,
    },
    /// A device of another kind has our device's name.
    #[error("VXLAN device {name} cannot be made, since a device of another kind has its name: ip link delete {name}")]
    Name {
        /// The name.
        name: IfName,
    },
    /// A VXLAN device of another name has our VNI and port.
    #[error(
        "VXLAN device {name} cannot be made, since {other} has the same VNI and port: ip link delete {other}, or choose another Backend.VNI or Backend.Port"
    )]
    Tunnel {
        /// Our device.
        name: IfName,
        /// Theirs.
        other: IfName,
    },
}

impl Plan {
    /// True where nothing is to be done and nothing stands in the way.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.conflicts.is_empty()
    }

    /// What makes `observed` like `desired`.
    pub fn diff(observed: &Observed, desired: &Desired, identity: &Identity) -> Self {
        let (blocked, fresh, present) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut diff = Diff { observed, desired, identity, blocked, fresh, present, plan: Plan::default() };
        diff.devices();
        diff.addresses_to_add();
        diff.sysctls();
        diff.peers_to_add();
        diff.rules();
        diff.peers_to_remove();
        diff.devices_to_remove();
        diff.plan
    }
}

struct Diff<'a> {
    observed: &'a Observed,
    desired: &'a Desired,
    identity: &'a Identity,
    /// Devices that cannot be made: nothing on them can be either.
    blocked: BTreeSet<&'a IfName>,
    /// Devices that this plan makes: whatever was observed on one of their name goes with the old one.
    fresh: BTreeSet<&'a IfName>,
    /// The routes that stay where they are, by what makes one of them stand in another's place: destination and metric.
    present: BTreeMap<(Prefix, u32), Vec<&'a DeviceRoute>>,
    plan: Plan,
}

impl<'a> Diff<'a> {
    fn push(&mut self, op: Op) {
        self.plan.ops.push(op);
    }

    fn devices(&mut self) {
        for (name, device) in &self.desired.devices {
            match self.observed.links.get(name) {
                None => self.make(name, device),
                Some(link) => match &link.kind {
                    Kind::Vxlan(vxlan) if *vxlan == device.vxlan => self.adjust(link, device),
                    Kind::Vxlan(_) => {
                        self.push(Op::DeleteLink(name.clone()));
                        self.make(name, device);
                    }
                    _ => {
                        self.blocked.insert(name);
                        self.plan.conflicts.push(Conflict::Name { name: name.clone() });
                    }
                },
            }
        }
    }

    fn make(&mut self, name: &'a IfName, device: &Device) {
        let local_family = |local: Option<std::net::IpAddr>| local.map(|address| address.is_ipv4());
        let same_socket = |link: &&Link| match &link.kind {
            Kind::Vxlan(other) => {
                (other.vni, other.port, local_family(other.local))
                    == (device.vxlan.vni, device.vxlan.port, local_family(device.vxlan.local))
            }
            _ => false,
        };
        let others = self.observed.links.values().filter(|link| link.name != *name);
        if let Some(other) = others.filter(|link| !self.is_ours(link)).find(same_socket) {
            self.blocked.insert(name);
            self.plan.conflicts.push(Conflict::Tunnel { name: name.clone(), other: other.name.clone() });
            return;
        }
        self.fresh.insert(name);
        let Device { vxlan, underlay, mac, mtu } = device.clone();
        // The kernel takes one device per VNI and port: one of ours by another name goes first.
        let former: Vec<_> = self.stale_devices().filter(same_socket).map(|link| link.name.clone()).collect();
        for name in former {
            self.push(Op::DeleteLink(name));
        }
        self.push(Op::AddVxlan { name: name.clone(), vxlan, underlay, mac, mtu });
        let alias = Some(self.identity.mark.clone());
        self.push(Op::SetLink { name: name.clone(), change: LinkChange { alias, ..LinkChange::default() } });
    }

    fn adjust(&mut self, link: &Link, device: &Device) {
        let alias = Some(&self.identity.mark).filter(|mark| link.alias.as_ref() != Some(*mark)).cloned();
        let change = LinkChange {
            up: (!link.up).then_some(true),
            mtu: (link.mtu != device.mtu.get()).then_some(device.mtu),
            mac: (link.mac != Some(device.mac)).then_some(device.mac),
            alias,
        };
        if change != LinkChange::default() {
            self.push(Op::SetLink { name: link.name.clone(), change });
        }
    }

    fn is_ours(&self, link: &Link) -> bool {
        matches!(link.kind, Kind::Vxlan(_)) && link.alias.as_ref() == Some(&self.identity.mark)
    }

    /// Devices of ours that are not wanted any more.
    fn stale_devices(&self) -> impl Iterator<Item = &'a Link> + use<'a> {
        let (desired, mark) = (self.desired, &self.identity.mark);
        self.observed.links.values().filter(move |link| {
            matches!(link.kind, Kind::Vxlan(_))
                && link.alias.as_ref() == Some(mark)
                && !desired.devices.contains_key(&link.name)
        })
    }

    /// True for a device on which something that was observed is still there when its turn comes.
    fn keeps(&self, device: &IfName) -> bool {
        !self.fresh.contains(device)
    }

    fn usable(&self, device: &IfName) -> bool {
        !self.blocked.contains(device)
    }

    fn addresses_to_add(&mut self) {
        for address in &self.desired.addresses {
            let there = self.keeps(&address.device) && self.observed.addresses.contains(address);
            if !there && self.usable(&address.device) {
                self.push(Op::AddAddress(address.clone()));
            }
        }
    }

    fn sysctls(&mut self) {
        for (key, value) in &self.desired.sysctls {
            let of_fresh = self.fresh.iter().any(|device| key.contains(&format!("/{device}/")));
            let of_blocked = self.blocked.iter().any(|device| key.contains(&format!("/{device}/")));
            if (of_fresh || self.observed.sysctls.get(key) != Some(value)) && !of_blocked {
                let (key, value) = (key.clone(), value.clone());
                self.push(Op::SetSysctl { key, value });
            }
        }
    }

    fn peers_to_add(&mut self) {
        for ((device, address), mac) in &self.desired.neighbours {
            let there = self.keeps(device) && self.observed.neighbours.get(&(device.clone(), *address)) == Some(mac);
            if !there && self.usable(device) {
                self.push(Op::PutNeighbour { device: device.clone(), address: *address, mac: *mac });
            }
        }
        for ((device, mac), destination) in &self.desired.fdb {
            let entry = (device.clone(), *mac, *destination);
            let there = self.keeps(device) && self.observed.fdb.contains(&entry);
            if !there && self.usable(device) {
                self.push(Op::PutFdb { device: device.clone(), mac: *mac, destination: *destination });
            }
        }
        for route in self.observed.routes.iter().filter(|route| !self.fresh.contains(&route.device)) {
            self.present.entry((route.destination, route.metric)).or_default().push(route);
        }
        for (destination, wanted) in &self.desired.routes {
            let there = self.present.get(&(*destination, wanted.metric)).map_or(&[][..], Vec::as_slice);
            if there.contains(&wanted) || !self.usable(&wanted.device) {
                continue;
            }
            match there.iter().find(|route| !self.owns(route)) {
                Some(foreign) => {
                    let (wanted, present) = (Box::new(wanted.clone()), Box::new((*foreign).clone()));
                    self.plan.conflicts.push(Conflict::Route { wanted, present });
                }
                None if there.is_empty() => self.push(Op::AddRoute(wanted.clone())),
                None => self.push(Op::ReplaceRoute(wanted.clone())),
            }
        }
    }

    /// Ours are the routes into our networks that bear our protocol number, or lead out of our devices: those that another
    /// daemon made there before us are adopted. A route that nobody signed (`ip route` without `proto` says "boot") in the very
    /// place of one of ours is ours bent by hand.
    fn owns(&self, route: &DeviceRoute) -> bool {
        const KERNEL: u8 = 2;
        const BOOT: u8 = 3;
        let on_our_device = self.desired.devices.contains_key(&route.device)
            || self.observed.links.get(&route.device).is_some_and(|link| self.is_ours(link));
        let in_our_place = self.desired.routes.get(&route.destination).is_some_and(|ours| ours.metric == route.metric);
        self.identity.covers(route.destination)
            && (route.protocol == PROTOCOL
                || on_our_device && route.protocol.0 != KERNEL
                || in_our_place && route.protocol.0 == BOOT)
    }

    fn rules(&mut self) {
        let (present, wanted) = (&self.observed.table, &self.desired.table);
        match wanted {
            Some(table) if present.as_ref() != Some(table) => {
                self.push(Op::Nft(Change::ReplaceTable(table.clone())));
            }
            None if present.is_some() => self.push(Op::Nft(Change::DeleteTable(self.identity.table()))),
            _ => {}
        }
        for accept in &self.desired.accepts {
            let there = self.observed.accepts.iter().any(|(table, chain, placed)| {
                *table == accept.table && *chain == accept.chain && placed.rule == accept.rule
            });
            if !there {
                let (table, chain, rule) = (accept.table.clone(), accept.chain.clone(), accept.rule.clone());
                self.push(Op::Nft(Change::AddRule { table, chain, rule }));
            }
        }
        let mut kept: Vec<(&dataplane::nft::TableId, &str, &Rule)> = Vec::new();
        for (table, chain, placed) in &self.observed.accepts {
            let wanted = self
                .desired
                .accepts
                .iter()
                .any(|accept| *table == accept.table && *chain == accept.chain && placed.rule == accept.rule);
            let this = (table, chain.as_str(), &placed.rule);
            if wanted && !kept.contains(&this) {
                kept.push(this);
            } else {
                let (table, chain, handle) = (table.clone(), chain.clone(), placed.handle);
                self.push(Op::Nft(Change::DeleteRule { table, chain, handle }));
            }
        }
    }

    fn peers_to_remove(&mut self) {
        let replaced: BTreeSet<_> = self.plan.ops.iter().filter_map(replaced_by).collect();
        let observed = self.observed;
        for route in &observed.routes {
            if !self.keeps(&route.device) || !self.owns(route) {
                continue;
            }
            let wanted = self.desired.routes.get(&route.destination) == Some(route);
            // A replacement takes the place of the first with its destination and metric. IPv6 may have several.
            let gone = replaced.contains(&(route.destination, route.metric)) && self.is_first(route);
            if !wanted && !gone {
                self.plan.ops.push(Op::DeleteRoute(route.clone()));
            }
        }
        for (device, mac, destination) in &self.observed.fdb {
            // Another tunnel end of a wanted address was replaced above.
            if self.keeps(device) && !self.desired.fdb.contains_key(&(device.clone(), *mac)) {
                self.plan.ops.push(Op::DeleteFdb { device: device.clone(), mac: *mac, destination: *destination });
            }
        }
        for (device, address) in self.observed.neighbours.keys() {
            if self.keeps(device) && !self.desired.neighbours.contains_key(&(device.clone(), *address)) {
                self.plan.ops.push(Op::DeleteNeighbour { device: device.clone(), address: *address });
            }
        }
        for address in &self.observed.addresses {
            if self.keeps(&address.device) && !self.desired.addresses.contains(address) {
                self.plan.ops.push(Op::DeleteAddress(address.clone()));
            }
        }
    }

    fn is_first(&self, route: &DeviceRoute) -> bool {
        self.present.get(&(route.destination, route.metric)).and_then(|same| same.first()) == Some(&route)
    }

    fn devices_to_remove(&mut self) {
        let stale: Vec<_> = self.stale_devices().map(|link| link.name.clone()).collect();
        let deleted: BTreeSet<_> = self.plan.ops.iter().filter_map(deleted_link).cloned().collect();
        for name in stale.into_iter().filter(|name| !deleted.contains(name)) {
            // What is on the device goes with it.
            self.plan.ops.retain(|op| !(op.is_removal() && op.device() == Some(&name)));
            self.plan.ops.push(Op::DeleteLink(name));
        }
    }
}

fn replaced_by(op: &Op) -> Option<(Prefix, u32)> {
    match op {
        Op::ReplaceRoute(route) => Some((route.destination, route.metric)),
        _ => None,
    }
}

fn deleted_link(op: &Op) -> Option<&IfName> {
    match op {
        Op::DeleteLink(name) => Some(name),
        _ => None,
    }
}

impl fmt::Display for Plan {
    /// Lines for a shell; what cannot be done as comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for conflict in &self.conflicts {
            writeln!(f, "# {conflict}")?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

#[cfg(test)]
mod tests;
