//! The difference between what is and what should be, as a list of ops in a safe order.
//!
//! Pure. Make before break: what is new stands before what is old goes. A peer is added in the order neighbour, FDB entry,
//! route, so that no packet finds a route that leads nowhere, and removed in reverse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataplane::link::{Kind, Link};
use dataplane::nft::{Change, Rule};
use dataplane::op::{DeviceAddress, DeviceRoute, LinkChange, Op};
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
        let mut diff = Diff {
            observed,
            desired,
            identity,
            blocked: BTreeSet::new(),
            replaced: BTreeSet::new(),
            forgetful: BTreeSet::new(),
            present: BTreeMap::new(),
            plan: Plan::default(),
        };
        diff.devices();
        // A link on which IPv6 is switched off takes no IPv6 address.
        diff.sysctls();
        diff.addresses_to_add();
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
    /// Devices that this plan makes, and those that go before: whatever was observed on them goes with the old ones.
    replaced: BTreeSet<&'a IfName>,
    /// Devices that get another hardware address, with which the kernel forgets even their permanent neighbours.
    forgetful: BTreeSet<&'a IfName>,
    /// The routes that stay where they are, by what makes one of them stand in another's place: destination and metric.
    present: BTreeMap<(Prefix, u32), Vec<&'a DeviceRoute>>,
    plan: Plan,
}

impl<'a> Diff<'a> {
    fn push(&mut self, op: Op) {
        self.plan.ops.push(op);
    }

    fn devices(&mut self) {
        let mut to_make = Vec::new();
        for (name, device) in &self.desired.devices {
            match self.observed.links.get(name) {
                None => to_make.push((name, device)),
                Some(link) => match &link.kind {
                    Kind::Vxlan(vxlan) if *vxlan == device.vxlan => self.adjust(link, device),
                    Kind::Vxlan(_) => to_make.push((name, device)),
                    _ => {
                        self.blocked.insert(name);
                        self.plan.conflicts.push(Conflict::Name { name: name.clone() });
                    }
                },
            }
        }
        to_make.retain(|(name, device)| self.has_place(name, device));
        // Two devices may have to change places, so all that stand in the way go before the first is made.
        for (name, device) in &to_make {
            self.make_room(name, device);
        }
        for (name, device) in to_make {
            self.make(name, device);
        }
    }

    /// False where a device of somebody else's has the VNI and port.
    fn has_place(&mut self, name: &'a IfName, device: &Device) -> bool {
        let others = self.observed.links.values().filter(|link| !self.desired.devices.contains_key(&link.name));
        let mut foreign = others.filter(|link| !self.is_ours(link));
        let Some(other) = foreign.find(|link| shares_socket(link, device)) else { return true };
        self.plan.conflicts.push(Conflict::Tunnel { name: name.clone(), other: other.name.clone() });
        self.blocked.insert(name);
        false
    }

    /// Removes what the kernel does not take beside the new device: one of its name, or of ours with its VNI and port.
    fn make_room(&mut self, name: &'a IfName, device: &Device) {
        let former = self.stale_devices().filter(|link| shares_socket(link, device));
        let gone: Vec<_> = self.observed.links.get(name).into_iter().chain(former).map(|link| &link.name).collect();
        for name in gone {
            if self.replaced.insert(name) {
                self.push(Op::DeleteLink(name.clone()));
            }
        }
    }

    fn make(&mut self, name: &'a IfName, device: &Device) {
        self.replaced.insert(name);
        let Device { vxlan, underlay, mac, mtu } = device.clone();
        self.push(Op::AddVxlan { name: name.clone(), vxlan, underlay, mac, mtu });
        let alias = Some(self.identity.mark.clone());
        self.push(Op::SetLink { name: name.clone(), change: LinkChange { alias, ..LinkChange::default() } });
    }

    fn adjust(&mut self, link: &'a Link, device: &Device) {
        let alias = Some(&self.identity.mark).filter(|mark| link.alias.as_ref() != Some(*mark)).cloned();
        let change = LinkChange {
            up: (!link.up).then_some(true),
            mtu: (link.mtu != device.mtu.get()).then_some(device.mtu),
            mac: (link.mac != Some(device.mac)).then_some(device.mac),
            alias,
        };
        if change.mac.is_some() {
            self.forgetful.insert(&link.name);
        }
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
        !self.replaced.contains(device)
    }

    /// True for a device whose neighbours are still there when their turn comes.
    fn remembers(&self, device: &IfName) -> bool {
        self.keeps(device) && !self.forgetful.contains(device)
    }

    /// False for a device that is somebody else's: nothing is added there, and nothing taken away.
    fn usable(&self, device: &IfName) -> bool {
        !self.blocked.contains(device)
    }

    fn addresses_to_add(&mut self) {
        for address in &self.desired.addresses {
            let there = self.keeps(&address.device) && self.observed.addresses.contains(address);
            if !there && self.usable(&address.device) {
                self.make_room_for(address);
                self.push(Op::AddAddress(address.clone()));
            }
        }
    }

    /// IPv6 has an address once on a link, whatever its prefix length. An IPv4 address stays until the new one is there:
    /// with the last one, the kernel removes the link's routes.
    fn make_room_for(&mut self, wanted: &DeviceAddress) {
        let same = |have: &&DeviceAddress| (&have.device, have.address) == (&wanted.device, wanted.address);
        if wanted.address.is_ipv6() && self.keeps(&wanted.device) {
            let there: Vec<_> = self.observed.addresses.iter().filter(same).cloned().collect();
            self.plan.ops.extend(there.into_iter().map(Op::DeleteAddress));
        }
    }

    fn sysctls(&mut self) {
        for (key, value) in &self.desired.sysctls {
            let of_replaced = self.replaced.iter().any(|device| key.contains(&format!("/{device}/")));
            let of_blocked = self.blocked.iter().any(|device| key.contains(&format!("/{device}/")));
            if (of_replaced || self.observed.sysctls.get(key) != Some(value)) && !of_blocked {
                let (key, value) = (key.clone(), value.clone());
                self.push(Op::SetSysctl { key, value });
            }
        }
    }

    fn peers_to_add(&mut self) {
        for ((device, address), mac) in &self.desired.neighbours {
            let there =
                self.remembers(device) && self.observed.neighbours.get(&(device.clone(), *address)) == Some(mac);
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
        for route in self.observed.routes.iter().filter(|route| !self.replaced.contains(&route.device)) {
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
                None => self.put_route(wanted),
            }
        }
    }

    fn put_route(&mut self, wanted: &DeviceRoute) {
        let stone = self.stepping_stone(wanted);
        self.plan.ops.extend(stone.clone().map(Op::ReplaceRoute));
        let there = self.present.get(&(wanted.destination, wanted.metric)).cloned().unwrap_or_default();
        if let Some((_, others)) = there.split_first() {
            // Which of several the kernel would replace depends on their order there, and for IPv6 on their kind.
            self.plan.ops.extend(others.iter().map(|other| Op::DeleteRoute((*other).clone())));
            self.push(Op::ReplaceRoute(wanted.clone()));
        } else {
            self.push(Op::AddRoute(wanted.clone()));
        }
        self.plan.ops.extend(stone.map(Op::DeleteRoute));
    }

    /// A route to the next hop itself, for as long as it takes to put the wanted one.
    ///
    /// The kernel refuses an IPv6 next hop, `onlink` or not, to which another route than the default one leads out of
    /// another device (`ip6_route_check_nh_onlink`). Our next hop in a tunnel lies in the destination, so the route that
    /// is to be replaced is such a one. To remove it first would lose packets.
    fn stepping_stone(&self, wanted: &DeviceRoute) -> Option<DeviceRoute> {
        let gateway = wanted.gateway.filter(|gateway| wanted.onlink && gateway.is_ipv6())?;
        let lengths = (1..=128).rev().filter_map(|len| Prefix::new(gateway, len));
        let to = |range: Prefix| self.present.range((range, 0)..=(range, u32::MAX)).flat_map(|(_, routes)| routes);
        let nearest = lengths.map(|range| to(range).collect::<Vec<_>>()).find(|routes| !routes.is_empty())?;
        let destination = Prefix::host(gateway);
        let stone = DeviceRoute { destination, gateway: None, onlink: false, ..wanted.clone() };
        let is_needed = nearest.iter().any(|route| route.device != wanted.device);
        (is_needed && to(destination).all(|route| self.owns(route))).then_some(stone)
    }

    /// Ours are the routes into our networks that bear our protocol number, or lead out of our devices: those that another
    /// daemon made there before us are adopted. A route that nobody signed (`ip route` without `proto` says "boot") in the very
    /// place of one of ours is ours bent by hand.
    fn owns(&self, route: &DeviceRoute) -> bool {
        const KERNEL: u8 = 2;
        const BOOT: u8 = 3;
        let on_our_device = self.desired.devices.contains_key(&route.device) && self.usable(&route.device)
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
        for route in &self.observed.routes {
            let wanted = self.desired.routes.get(&route.destination) == Some(route);
            let gone = replaced.contains(&(route.destination, route.metric));
            if self.keeps(&route.device) && self.owns(route) && !wanted && !gone {
                self.plan.ops.push(Op::DeleteRoute(route.clone()));
            }
        }
        for (device, mac, destination) in &self.observed.fdb {
            // Another tunnel end of a wanted address was replaced above.
            if self.is_at_hand(device) && !self.desired.fdb.contains_key(&(device.clone(), *mac)) {
                self.plan.ops.push(Op::DeleteFdb { device: device.clone(), mac: *mac, destination: *destination });
            }
        }
        for (device, address) in self.observed.neighbours.keys() {
            let there = self.is_at_hand(device) && self.remembers(device);
            if there && !self.desired.neighbours.contains_key(&(device.clone(), *address)) {
                self.plan.ops.push(Op::DeleteNeighbour { device: device.clone(), address: *address });
            }
        }
        for address in &self.observed.addresses {
            let op = Op::DeleteAddress(address.clone());
            let stays = self.desired.addresses.contains(address) || self.plan.ops.contains(&op);
            if self.is_at_hand(&address.device) && !stays {
                self.plan.ops.push(op);
            }
        }
    }

    /// True for a device of ours that stays: what is on it can be taken away.
    fn is_at_hand(&self, device: &IfName) -> bool {
        self.keeps(device) && self.usable(device)
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

fn shares_socket(link: &Link, device: &Device) -> bool {
    matches!(&link.kind, Kind::Vxlan(vxlan) if vxlan.shares_socket(&device.vxlan))
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
