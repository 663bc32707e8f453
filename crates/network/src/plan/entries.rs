//! The part of a plan about entries: addresses, neighbours, forwarding entries and routes.
//!
//! Pure.

use std::collections::BTreeSet;

use dataplane::op::{DeviceAddress, DeviceRoute, Op};
use dataplane::types::{Family, IfName, Prefix, RouteProtocol};

use super::{Conflict, Diff};

impl Diff<'_> {
    pub(super) fn addresses_to_add(&mut self) {
        for address in &self.desired.addresses {
            let there = self.keeps(&address.device) && self.observed.addresses.contains(address);
            if !there && self.usable(&address.device) {
                self.make_room_for(address);
                self.push(Op::AddAddress(address.clone()));
            }
        }
    }

    /// An IPv6 link has an address once, whatever the prefix length, so the old one is deleted first. An IPv4 address stays until the new one
    /// is there: with the last address, the kernel deletes the link's routes.
    fn make_room_for(&mut self, wanted: &DeviceAddress) {
        let same = |have: &&DeviceAddress| (&have.device, have.address) == (&wanted.device, wanted.address);
        if wanted.address.is_ipv6() && self.keeps(&wanted.device) {
            let there: Vec<_> = self.observed.addresses.iter().filter(same).cloned().collect();
            self.plan.ops.extend(there.into_iter().map(Op::DeleteAddress));
        }
    }

    pub(super) fn peers_to_add(&mut self) {
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
            if route.destination.family() == Family::V6 && !route.destination.is_default() {
                self.lengths.insert(route.destination.len());
            }
            self.present.entry((route.destination, route.metric)).or_default().push(route);
        }
        for (destination, wanted) in &self.desired.routes {
            let there = self.present.get(&(*destination, wanted.metric)).map_or(&[][..], Vec::as_slice);
            if there.contains(&wanted) || !self.usable(&wanted.device) || self.comes_by_itself(wanted) {
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

    /// True for the route of an address that this plan adds or whose device it takes up: the kernel adds the route then.
    fn comes_by_itself(&self, route: &DeviceRoute) -> bool {
        let brings = |op: &Op| match op {
            Op::AddAddress(address) => address.device == route.device && route.destination.contains(address.address),
            Op::SetLink { name, change } => *name == route.device && change.up == Some(true),
            _ => false,
        };
        route.protocol == RouteProtocol::KERNEL && self.plan.ops.iter().any(brings)
    }

    fn put_route(&mut self, wanted: &DeviceRoute) {
        let stone = self.stepping_stone(wanted);
        self.plan.ops.extend(stone.clone().map(Op::ReplaceRoute));
        let there = self.present.get(&(wanted.destination, wanted.metric)).cloned().unwrap_or_default();
        if let Some((_, others)) = there.split_first() {
            // Of several routes, the kernel replaces one that depends on their order, and for IPv6 on their kind.
            self.plan.ops.extend(others.iter().map(|other| Op::DeleteRoute((*other).clone())));
            self.push(Op::ReplaceRoute(wanted.clone()));
        } else {
            self.push(Op::AddRoute(wanted.clone()));
        }
        self.plan.ops.extend(stone.map(Op::DeleteRoute));
    }

    /// The stepping stone: a route to the next hop itself, there only while the desired route is put.
    ///
    /// The kernel refuses an IPv6 next hop, `onlink` or not, to which a route other than the default one leads out of another device
    /// (`ip6_route_check_nh_onlink`). The next hop in a tunnel lies in the destination, so the route to be replaced is such a route.
    /// Deleting it first would lose packets.
    fn stepping_stone(&self, wanted: &DeviceRoute) -> Option<DeviceRoute> {
        let gateway = wanted.gateway.filter(|gateway| wanted.onlink && gateway.is_ipv6())?;
        let lengths = self.lengths.iter().rev().filter_map(|len| Prefix::new(gateway, *len));
        let to = |range: Prefix| self.present.range((range, 0)..=(range, u32::MAX)).flat_map(|(_, routes)| routes);
        let nearest = lengths.map(|range| to(range).collect::<Vec<_>>()).find(|routes| !routes.is_empty())?;
        let destination = Prefix::host(gateway);
        let stone = DeviceRoute { destination, gateway: None, onlink: false, ..wanted.clone() };
        // The kernel does not count a route that leads nowhere, such as a blackhole.
        let is_needed = nearest.iter().any(|route| route.kind.is_unicast() && route.device != wanted.device);
        (is_needed && to(destination).all(|route| self.owns(route))).then_some(stone)
    }

    pub(super) fn peers_to_remove(&mut self) {
        let replaced = self.plan.ops.iter().filter_map(|op| match op {
            Op::ReplaceRoute(route) => Some((route.destination, route.metric)),
            _ => None,
        });
        let replaced: BTreeSet<(Prefix, u32)> = replaced.collect();
        for route in &self.observed.routes {
            let wanted = self.desired.routes.get(&route.destination) == Some(route);
            let gone = replaced.contains(&(route.destination, route.metric));
            if self.keeps(&route.device) && self.owns(route) && !wanted && !gone {
                self.plan.ops.push(Op::DeleteRoute(route.clone()));
            }
        }
        for (device, mac, destination) in &self.observed.fdb {
            // Another tunnel end of a desired hardware address is replaced by `PutFdb`.
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

    /// True for a device of ours that stays: entries on it can be deleted.
    fn is_at_hand(&self, device: &IfName) -> bool {
        self.keeps(device) && self.usable(device)
    }
}
