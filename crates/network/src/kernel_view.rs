//! What the kernel has, kept true by its notifications from one dump to the next.
//!
//! Pure. A notification gives the key that it is about its new value ([`Engine::observe`]). A notification that says less than has
//! changed requires a resync; one of an object from which more follows than from an entry requires a full run.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::link::Link;
use dataplane::monitor::{Devices, Event, Filter, NetconfChange, Routes, RtnetlinkObject, Tables};
use dataplane::nft::{TableFilter, TableId};
use dataplane::op::DeviceRoute;
use dataplane::route::Route;
use dataplane::types::{Family, IfName, Prefix, RouteProtocol};

use crate::key::Key;
use crate::overlay::{Desired, Identity, forward};
use crate::plan::devices::adjustment;
use crate::value::{Item, Value};

/// The engine, with the keys of the pod network.
pub type Engine = reconcile::Engine<Key, Value>;

/// Which notifications are about objects of ours, or about what these follow from.
#[derive(Debug, Clone)]
pub struct WatchFilter {
    /// How our objects are known.
    pub identity: Identity,
    /// Our nftables table.
    pub table: TableId,
    /// The port of our own nftables socket: what is changed through it is known already.
    pub port: u32,
    /// The index and the name of the interface under the tunnels.
    pub underlay: (u32, IfName),
    /// Routes of others decide which route packets to peers take, or which interface carries them.
    pub follows_routes: bool,
}

impl WatchFilter {
    /// True for destinations of routes of ours, and of IPv6 routes that may lead to their next hops.
    pub fn tracks(&self, destination: Prefix) -> bool {
        let leads_to = |network: &Prefix| destination.family() == Family::V6 && destination.covers(*network);
        let mut networks = self.identity.networks.iter().map(|(_, network)| network);
        self.identity.covers(destination) || !destination.is_default() && networks.any(leads_to)
    }
}

/// What has to be known to read a notification: the names of links, and those links of which a change matters.
#[derive(Debug, Clone)]
pub struct KernelView {
    /// Which notifications matter.
    pub(crate) filter: WatchFilter,
    names: BTreeMap<u32, IfName>,
    /// The interface under the tunnels and every VXLAN device.
    pub(crate) links: BTreeMap<IfName, Link>,
    /// The devices that are ours, or will be.
    ours: BTreeSet<IfName>,
    /// The devices that the last run could not make: the kernel notifies each attempt, which is no news. The next attempt has its time.
    pub(crate) unmade: BTreeSet<IfName>,
    /// Sysctls of ours have changed: which ones, has to be read.
    sysctls_changed: bool,
}

impl KernelView {
    /// From the links of a dump.
    pub fn new(mut links: BTreeMap<IfName, Link>, desired: &Desired, filter: WatchFilter) -> Self {
        let names = links.values().map(|link| (link.index, link.name.clone())).collect();
        let marked = links.values().filter(|link| filter.identity.owns(link)).map(|link| link.name.clone());
        let bridge = desired.bridge.iter().map(|bridge| bridge.name.clone());
        let ours: BTreeSet<IfName> = marked.chain(desired.devices.keys().cloned()).chain(bridge).collect();
        links.retain(|name, link| link.tunnel().is_some() || ours.contains(name) || *name == filter.underlay.1);
        Self { filter, names, links, ours, unmade: BTreeSet::new(), sysctls_changed: false }
    }

    /// The notifications that matter.
    pub fn subscription(&self, desired: &Desired) -> Filter {
        let ours = self.names.iter().filter(|(_, name)| self.ours.contains(*name)).map(|(index, _)| *index);
        let indexes = ours.chain([self.filter.underlay.0]).collect();
        let newest = self.names.keys().next_back().copied().unwrap_or_default();
        let networks = self.filter.identity.networks.iter().map(|(_, network)| *network);
        let routes = if self.filter.follows_routes { Routes::All } else { Routes::Within(networks.collect()) };
        let own = desired.table.as_ref().map_or_else(TableFilter::default, TableFilter::of);
        let tables = forward::shared_chains().chain([(self.filter.table.clone(), own)]);
        let tables = tables.map(|(id, filter)| (id, filter.without_own(self.filter.port))).collect();
        let (devices, tables) = (Devices::Only { indexes, newest }, Tables::Only(tables));
        Filter { links: true, routes, rules: true, devices, tables, commits: false }
    }

    /// True where sysctls have changed since the last call.
    pub fn take_sysctls_changed(&mut self) -> bool {
        std::mem::take(&mut self.sysctls_changed)
    }

    /// Takes a notification.
    pub fn notify(&mut self, event: Event, desired: &Desired, engine: &mut Engine) {
        match event {
            Event::Overrun | Event::Unparsed => engine.require_resync(),
            Event::New(object) => self.object(object, true, desired, engine),
            Event::Deleted(object) => self.object(object, false, desired, engine),
            Event::Replaced(route) => self.route(&route, desired, engine, |routes, route| {
                let before = routes.len();
                routes.retain(|former| !matches!(former, Item::Route(former) if former.metric == route.metric));
                let replaced = before - routes.len();
                routes.insert(Item::Route(route));
                // The notification does not say which of several routes was replaced.
                replaced <= 1
            }),
            Event::Netconf(NetconfChange { device, .. }) => {
                let is_ours = |index| index == self.filter.underlay.0 || self.device(index).is_some();
                self.sysctls_changed |= device.is_none_or(is_ours);
            }
            // What is changed through the own socket is known. Rules and elements of ours do not come and go with peers: any other change
            // of our table is a stranger's, and a dump says what to undo.
            Event::Table(change)
                if change.origin != self.filter.port
                    && (change.table == self.filter.table
                        || forward::is_of_shared_chain(&change.table, &change.subject)) =>
            {
                engine.require_full();
            }
            // Nothing that is desired follows from policy rules.
            Event::Table(_) | Event::Committed { .. } | Event::Rules => {}
        }
    }

    /// An object is there with the notified value, or has been deleted.
    fn object(&mut self, object: RtnetlinkObject, is_there: bool, desired: &Desired, engine: &mut Engine) {
        match object {
            RtnetlinkObject::Link(link) if self.unmade.contains(&link.name) => {}
            RtnetlinkObject::Link(link) if is_there => self.link_changed(*link, desired, engine),
            RtnetlinkObject::Link(link) => self.link_deleted(&link, desired, engine),
            RtnetlinkObject::Address(address) => {
                let (is_of_underlay, device) = (address.index == self.filter.underlay.0, self.device(address.index));
                match device.filter(|_| address.global || !is_there) {
                    _ if is_of_underlay && is_there => engine.require_full(),
                    // Without notifications, the kernel deletes the IPv4 routes and neighbours that go with a device's last address.
                    device if !is_there && (is_of_underlay || device.is_some()) => engine.require_resync(),
                    Some(device) => self.edit(Key::Address(device, address.address), desired, engine, |lengths| {
                        lengths.insert(Item::PrefixLength(address.prefix_len));
                    }),
                    None => {}
                }
            }
            RtnetlinkObject::Route(route) => self.route(&route, desired, engine, |routes, route| {
                // A deleted route that was not known is notified in another form than it is dumped.
                let route = Item::Route(route);
                if !is_there {
                    return routes.remove(&route);
                }
                routes.insert(route);
                true
            }),
            RtnetlinkObject::Neighbour(entry) => {
                let Some(device) = self.tunnel(entry.index, desired) else { return };
                let mac = entry.mac.filter(|_| is_there && entry.permanent).map(Item::Mac).into_iter();
                self.edit(Key::Neighbour(device, entry.address), desired, engine, |value| *value = mac.collect());
            }
            RtnetlinkObject::Fdb(entry) => {
                let Some(device) = self.tunnel(entry.index, desired) else { return };
                self.edit(Key::Fdb(device, entry.mac), desired, engine, |endpoints| {
                    let endpoint = Item::Endpoint(entry.destination);
                    if !is_there || !entry.permanent {
                        endpoints.remove(&endpoint);
                        return;
                    }
                    // A hardware address of one device has one tunnel end; all zeros and groups may have several.
                    if !entry.mac.is_unusable() {
                        endpoints.clear();
                    }
                    endpoints.insert(endpoint);
                });
            }
        }
    }

    /// Changes the routes to a destination. `change` gives false where the notification does not say all.
    fn route(
        &self,
        route: &Route,
        desired: &Desired,
        engine: &mut Engine,
        change: impl FnOnce(&mut Value, DeviceRoute) -> bool,
    ) {
        let destination = route.destination;
        if !self.filter.identity.covers(destination) && (self.filter.follows_routes || destination.is_default()) {
            // The default route says which interface is the one between nodes.
            engine.require_full();
        }
        if !self.filter.tracks(destination) {
            return;
        }
        // A link without a name is new, and not notified yet.
        let Some(device) = self.names.get(&route.index) else { return engine.require_resync() };
        let route = DeviceRoute::of(route, device.clone());
        let is_subnet = self.filter.identity.covers(destination) && destination.len() < destination.family().bits();
        if is_subnet && route.protocol == RouteProtocol::KERNEL && !self.ours.contains(&route.device) {
            // The plugin has made the pods' bridge.
            engine.require_full();
        }
        let mut says_all = true;
        self.edit(Key::Route(destination), desired, engine, |routes| says_all = change(routes, route));
        if !says_all {
            engine.require_resync();
        }
    }

    /// A device of ours.
    fn device(&self, index: u32) -> Option<IfName> {
        self.names.get(&index).filter(|name| self.ours.contains(*name)).cloned()
    }

    /// A device of ours on which all entries are ours. The neighbours on the bridge are pods.
    fn tunnel(&self, index: u32, desired: &Desired) -> Option<IfName> {
        let is_bridge = |name: &IfName| desired.bridge.as_ref().is_some_and(|bridge| bridge.name == *name);
        self.device(index).filter(|name| !is_bridge(name))
    }

    /// A link is there. Of most links only the name counts: a node's pods come and go all the time.
    fn link_changed(&mut self, link: Link, desired: &Desired, engine: &mut Engine) {
        let former = self.names.insert(link.index, link.name.clone());
        let is_renamed = former.is_some_and(|former| former != link.name);
        let known = self.links.get(&link.name);
        if is_renamed || self.is_underlay(&link) {
            if is_renamed || known != Some(&link) {
                engine.require_resync();
            }
        } else if self.ours.contains(&link.name) {
            // With the state or the hardware address of a device goes more than is notified.
            if known.is_some_and(|known| known.index == link.index && drops_entries(known, &link)) {
                engine.require_resync();
            }
            let mark = &self.filter.identity.mark;
            let change = match (desired.devices.get(&link.name), &desired.bridge) {
                (Some(device), _) => adjustment(&link, device, mark),
                (None, bridge) => bridge.as_ref().and_then(|bridge| bridge.adjustment(&link)),
            };
            let is_as_desired = change.is_some_and(|change| change == dataplane::link::LinkChange::default());
            let item = if is_as_desired { Item::AsDesired } else { Item::Other };
            self.edit(Key::Device(link.name.clone()), desired, engine, |value| *value = Value::from([item]));
        } else if link.tunnel().is_some() {
            if known != Some(&link) {
                engine.require_full();
            }
        } else {
            return;
        }
        self.links.insert(link.name.clone(), link);
    }

    fn link_deleted(&mut self, link: &Link, desired: &Desired, engine: &mut Engine) {
        self.names.remove(&link.index);
        self.links.retain(|_, known| known.index != link.index);
        if self.ours.contains(&link.name) || self.is_underlay(link) || link.tunnel().is_some() {
            return engine.require_resync();
        }
        // The routes out of the link went with it, most of them without a notification.
        let is_on_link = |item: &Item| matches!(item, Item::Route(route) if route.device == link.name);
        let gone = engine.deviations().iter().filter(|(_, value)| value.iter().any(is_on_link));
        let gone: Vec<Key> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.edit(key, desired, engine, |routes| routes.retain(|item| !is_on_link(item)));
        }
    }

    /// Changes what stands at a key. Routes to elsewhere are not ours to compare.
    fn edit(&self, key: Key, desired: &Desired, engine: &mut Engine, change: impl FnOnce(&mut Value)) {
        let is_ours = !matches!(key, Key::Route(destination) if !self.filter.identity.covers(destination));
        let wanted = desired.value(&key);
        let mut value = engine.deviations().get(&key).unwrap_or(&wanted).clone();
        change(&mut value);
        engine.observe(key, value, &wanted, is_ours);
    }

    fn is_underlay(&self, link: &Link) -> bool {
        link.index == self.filter.underlay.0 || link.name == self.filter.underlay.1
    }
}

/// True where the kernel drops entries of a device without a notification for each.
fn drops_entries(known: &Link, now: &Link) -> bool {
    known.up && !now.up || known.mac != now.mac
}

#[cfg(test)]
mod tests;
