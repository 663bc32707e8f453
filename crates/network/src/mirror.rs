//! What the kernel has, kept true by its own notifications from one full read to the next.
//!
//! Pure. What a notification cannot say, or what decides more than the entry that it is about, asks for a full read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::link::Link;
use dataplane::monitor::{Devices, Event, Filter, NetconfChange, Object, Routes, Tables};
use dataplane::nft::{Table, TableChange, TableFilter, TableId};
use dataplane::op::{DeviceAddress, DeviceRoute};
use dataplane::route::Route;
use dataplane::types::{IfName, Mac, Prefix};

use crate::observe::Observed;
use crate::overlay::{Desired, Identity, forward};

/// Places in the kernel where something of ours is, or was, or should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// Destinations of routes.
    pub routes: BTreeSet<Prefix>,
    /// Neighbours on our devices.
    pub neighbours: BTreeSet<(IfName, IpAddr)>,
    /// Hardware addresses on our devices.
    pub fdb: BTreeSet<(IfName, Mac)>,
    /// Nodes in the sets of our table.
    pub nodes: BTreeSet<IpAddr>,
    /// Our devices themselves, and their addresses.
    pub devices: bool,
}

/// What has to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stir {
    /// These places.
    pub keys: Keys,
    /// Everything, after a full read.
    pub whole: bool,
    /// The same, since what is known is not true any more.
    pub lost: bool,
    /// The sysctls, which are not mirrored.
    pub tuned: bool,
}

impl Keys {
    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These places too.
    pub fn extend(&mut self, more: Self) {
        self.routes.extend(more.routes);
        self.neighbours.extend(more.neighbours);
        self.fdb.extend(more.fdb);
        self.nodes.extend(more.nodes);
        self.devices |= more.devices;
    }
}

impl Stir {
    /// True where nothing that is mirrored has to be.
    pub fn is_empty(&self) -> bool {
        !self.whole && !self.lost && self.keys.is_empty()
    }
}

/// What we look after.
#[derive(Debug, Clone)]
pub struct Interest {
    /// How our objects are known.
    pub identity: Identity,
    /// Our nftables table.
    pub table: TableId,
    /// What the socket at this port asks of nftables is known already.
    pub port: u32,
    /// The interface under the tunnels.
    pub underlay: (u32, IfName),
    /// Routes of others decide which way packets to peers take, or by which interface.
    pub follows_routes: bool,
}

/// The kernel as last read and heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    observed: Observed,
    names: BTreeMap<u32, IfName>,
    /// The devices that are ours, or will be.
    ours: BTreeSet<IfName>,
}

impl Mirror {
    /// From a full read.
    pub fn new(observed: Observed, desired: &Desired, identity: &Identity) -> Self {
        let names = observed.links.values().map(|link| (link.index, link.name.clone())).collect();
        let marked = observed.links.values().filter(|link| is_marked(link, identity)).map(|link| link.name.clone());
        let ours = marked.chain(desired.devices.keys().cloned()).collect();
        Self { observed, names, ours }
    }

    /// What there is; our table is not in it.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The notifications that are wanted of the kernel. `table` is our table as it should be.
    pub fn filter(&self, interest: &Interest, table: Option<&Table>) -> Filter {
        let ours = self.names.iter().filter(|(_, name)| self.ours.contains(*name)).map(|(index, _)| *index);
        let indexes = ours.chain([interest.underlay.0]).collect();
        let newest = self.names.keys().next_back().copied().unwrap_or_default();
        let networks = &interest.identity.networks;
        let routes = if interest.follows_routes {
            Routes::All
        } else {
            Routes::Within(networks.iter().map(|(_, network)| *network).collect())
        };
        let own = table.map_or_else(TableFilter::default, TableFilter::of);
        let tables = forward::watched().chain([(interest.table.clone(), own)]);
        let tables = tables.map(|(id, filter)| (id, filter.without_own(interest.port))).collect();
        let (devices, tables) = (Devices::Only { indexes, newest }, Tables::Only(tables));
        Filter { links: true, routes, devices, tables, commits: false }
    }

    /// Takes a notification, and says what has to be looked at again. What it brings into the place where it is wanted
    /// does not: that is how our own changes come back.
    pub fn take(&mut self, event: Event, interest: &Interest, desired: &Desired, stir: &mut Stir) {
        match event {
            Event::Overrun | Event::Unparsed => stir.lost = true,
            Event::New(subject) => self.put(subject, interest, desired, stir),
            Event::Deleted(subject) => self.remove(subject, interest, desired, stir),
            Event::Replaced(route) => {
                if let Some(route) = self.named(&route, stir) {
                    let former = self.observed.routes_to(route.destination).filter(|r| r.metric == route.metric);
                    let former: Vec<_> = former.cloned().collect();
                    // Which of several has gone is not told.
                    stir.lost |= former.len() > 1;
                    for route in &former {
                        self.observed.routes.remove(route);
                    }
                    self.route(route, true, interest, desired, stir);
                }
            }
            Event::Netconf(NetconfChange { device, .. }) => {
                let concerns_us = |index| index == interest.underlay.0 || self.device(index).is_some();
                stir.tuned |= device.is_none_or(concerns_us);
            }
            Event::Table(TableChange { table, subject, origin, .. }) => {
                let is_of_ours = table == interest.table || forward::may_change(&table, &subject);
                stir.whole |= origin != interest.port && is_of_ours;
            }
            Event::Committed { .. } => {}
        }
    }

    fn put(&mut self, subject: Object, interest: &Interest, desired: &Desired, stir: &mut Stir) {
        match subject {
            Object::Link(link) => self.link(*link, interest, stir),
            Object::Address(address) if address.index == interest.underlay.0 => stir.whole = true,
            Object::Address(address) => {
                if let Some(device) = self.device(address.index).filter(|_| address.global) {
                    let (address, prefix_len) = (address.address, address.prefix_len);
                    self.observed.addresses.insert(DeviceAddress { device, address, prefix_len });
                    stir.keys.devices = true;
                }
            }
            Object::Route(route) => {
                if let Some(route) = self.named(&route, stir) {
                    self.route(route, true, interest, desired, stir);
                }
            }
            Object::Neighbour(entry) => {
                if let Some(device) = self.device(entry.index) {
                    let key = (device, entry.address);
                    match entry.mac.filter(|_| entry.permanent) {
                        Some(mac) => self.observed.neighbours.insert(key.clone(), mac),
                        None => self.observed.neighbours.remove(&key),
                    };
                    self.neighbour(key, desired, stir);
                }
            }
            Object::Fdb(entry) => {
                if let Some(device) = self.device(entry.index) {
                    // A hardware address of one device has one tunnel end; all zeros and groups may have several.
                    if !entry.mac.is_unusable() || !entry.permanent {
                        self.forget_fdb(&device, entry.mac, (!entry.permanent).then_some(entry.destination));
                    }
                    if entry.permanent {
                        self.observed.fdb.insert((device.clone(), entry.mac, entry.destination));
                    }
                    self.end((device, entry.mac), desired, stir);
                }
            }
        }
    }

    fn remove(&mut self, subject: Object, interest: &Interest, desired: &Desired, stir: &mut Stir) {
        match subject {
            Object::Link(link) => self.link_gone(&link, interest, stir),
            Object::Address(address) if address.index == interest.underlay.0 => stir.lost = true,
            Object::Address(address) => {
                if let Some(device) = self.device(address.index).filter(|_| address.global) {
                    let (address, prefix_len) = (address.address, address.prefix_len);
                    self.observed.addresses.remove(&DeviceAddress { device, address, prefix_len });
                    // The kernel tells nothing of the IPv4 routes and neighbours that go with the last one.
                    stir.lost = true;
                }
            }
            Object::Route(route) => {
                if let Some(route) = self.named(&route, stir) {
                    // One that was never seen has been told in another way than it was read.
                    stir.lost |= !self.observed.routes.remove(&route);
                    self.route(route, false, interest, desired, stir);
                }
            }
            Object::Neighbour(entry) => {
                if let Some(device) = self.device(entry.index) {
                    let key = (device, entry.address);
                    self.observed.neighbours.remove(&key);
                    self.neighbour(key, desired, stir);
                }
            }
            Object::Fdb(entry) => {
                if let Some(device) = self.device(entry.index) {
                    self.forget_fdb(&device, entry.mac, Some(entry.destination));
                    self.end((device, entry.mac), desired, stir);
                }
            }
        }
    }

    fn neighbour(&self, key: (IfName, IpAddr), desired: &Desired, stir: &mut Stir) {
        if self.observed.neighbours.get(&key) != desired.neighbours.get(&key) {
            stir.keys.neighbours.insert(key);
        }
    }

    fn end(&self, key: (IfName, Mac), desired: &Desired, stir: &mut Stir) {
        let ends = self.observed.ends_of(&key.0, key.1).map(|entry| &entry.2);
        if !ends.eq(desired.fdb.get(&key)) {
            stir.keys.fdb.insert(key);
        }
    }

    fn forget_fdb(&mut self, device: &IfName, mac: Mac, destination: Option<IpAddr>) {
        let ends: Vec<_> = self.observed.ends_of(device, mac).cloned().collect();
        for entry in ends.into_iter().filter(|entry| destination.is_none_or(|only| entry.2 == only)) {
            self.observed.fdb.remove(&entry);
        }
    }

    /// A device that is ours.
    fn device(&self, index: u32) -> Option<IfName> {
        self.names.get(&index).filter(|name| self.ours.contains(*name)).cloned()
    }

    /// The route by its device's name. A link without one was made and not told yet.
    fn named(&self, route: &Route, stir: &mut Stir) -> Option<DeviceRoute> {
        let name = self.names.get(&route.index);
        stir.lost |= name.is_none();
        name.map(|name| DeviceRoute::of(route, name.clone()))
    }

    fn route(&mut self, route: DeviceRoute, is_there: bool, interest: &Interest, desired: &Desired, stir: &mut Stir) {
        let wanted = desired.routes.get(&route.destination);
        let is_right = if is_there { wanted == Some(&route) } else { wanted.is_none() };
        if !interest.identity.covers(route.destination) {
            // The default route says which interface is the one between nodes.
            stir.whole |= interest.follows_routes || route.destination.is_default();
        } else if !is_right {
            stir.keys.routes.insert(route.destination);
        }
        if is_there {
            self.observed.routes.insert(route);
        }
    }

    /// A link is there. Only the names count of most: a node's pods come and go all the time.
    fn link(&mut self, link: Link, interest: &Interest, stir: &mut Stir) {
        let known = self.names.insert(link.index, link.name.clone());
        let is_renamed = known.is_some_and(|known| known != link.name);
        let is_underlay = link.index == interest.underlay.0 || link.name == interest.underlay.1;
        if is_renamed || is_underlay {
            stir.lost |= is_renamed;
            stir.lost |= self.observed.links.get(&link.name) != Some(&link);
            self.observed.links.insert(link.name.clone(), link);
        } else if self.ours.contains(&link.name) {
            let is_new = self.observed.links.get(&link.name).is_none_or(|known| known.index != link.index);
            // With the state or the hardware address of a device goes more than is told.
            stir.lost |= !is_new && self.observed.links.get(&link.name).is_some_and(|known| forgets(known, &link));
            stir.keys.devices = true;
            self.observed.links.insert(link.name.clone(), link);
        } else {
            let is_known = self.observed.links.get(&link.name) == Some(&link);
            stir.whole |= link.tunnel().is_some() && !is_known;
        }
    }

    fn link_gone(&mut self, link: &Link, interest: &Interest, stir: &mut Stir) {
        self.names.remove(&link.index);
        let is_ours = self.ours.contains(&link.name);
        let is_underlay = link.index == interest.underlay.0 || link.name == interest.underlay.1;
        stir.lost |= is_ours || is_underlay || link.tunnel().is_some();
        // What was on it went with it, most of it without a word.
        let observed = &mut self.observed;
        observed.links.retain(|_, known| known.index != link.index);
        observed.routes.retain(|route| route.device != link.name);
        if is_ours {
            observed.addresses.retain(|address| address.device != link.name);
            observed.neighbours.retain(|(device, _), _| *device != link.name);
            observed.fdb.retain(|(device, _, _)| *device != link.name);
        }
    }
}

/// True where the kernel drops entries of a device without telling of each.
fn forgets(known: &Link, now: &Link) -> bool {
    known.up && !now.up || known.mac != now.mac
}

fn is_marked(link: &Link, identity: &Identity) -> bool {
    link.tunnel().is_some() && link.alias.as_deref() == Some(identity.mark.as_str())
}

#[cfg(test)]
mod tests;
