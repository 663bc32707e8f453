//! A store, a kernel in memory with its notifications, and a node between the two.

use std::collections::BTreeSet;

use dataplane::fake::Fake;
use dataplane::monitor::RtnetlinkObject;
use dataplane::nft;
use dataplane::route::{Route, RouteKind};
use dataplane::types::RouteProtocol;
use network::fixtures::{Snapshot, mac, node_name, prefix, snapshot};
use network::model::Admission;
use network::observe;
use network::overlay::transition::Transition;
use network::plan::Plan;

use super::*;
use crate::config::{Config, RulesConfig};
use crate::reconcile::Planned;

/// The port of the node's own nftables socket, and of somebody else's.
const OWN: u32 = 1;
pub(super) const OTHER: u32 = 2;

/// What somebody does to the kernel, to the object that an index picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Injury {
    RouteGone,
    RouteBent,
    RouteOfOurs,
    RouteInOurPlace,
    RouteToNowhere,
    RouteToNowhereOfOthers,
    RouteOfOthers,
    NeighbourGone,
    NeighbourBent,
    NeighbourExtra,
    EndGone,
    EndBent,
    EndExtra,
    DeviceGone,
    DeviceDown,
    AliasGone,
    AddressGone,
    TableGone,
}

impl Injury {
    pub(super) const ALL: [Self; 18] = [
        Self::RouteGone,
        Self::RouteBent,
        Self::RouteOfOurs,
        Self::RouteInOurPlace,
        Self::RouteToNowhere,
        Self::RouteToNowhereOfOthers,
        Self::RouteOfOthers,
        Self::NeighbourGone,
        Self::NeighbourBent,
        Self::NeighbourExtra,
        Self::EndGone,
        Self::EndBent,
        Self::EndExtra,
        Self::DeviceGone,
        Self::DeviceDown,
        Self::AliasGone,
        Self::AddressGone,
        Self::TableGone,
    ];
}

pub(super) struct World {
    pub(super) network: Network,
    node: Node,
    rules: RulesConfig,
    leases: BTreeMap<NodeName, Arc<Lease>>,
    news: BTreeMap<NodeName, Option<Arc<Lease>>>,
    pub(super) cluster: Cluster,
    pub(super) kernel: Fake,
    waiting: Vec<Event>,
    pub(super) reconciler: Reconciler,
    pub(super) full_runs: usize,
    /// What the daemon remembers of a change of the backend.
    pub(super) transition: Transition,
    now: Duration,
}

impl World {
    pub(super) fn new(network: &Network) -> Self {
        let cluster = network.cluster();
        let rules = Config::of(&["--ip-masq"]).rules;
        Self {
            network: network.clone(),
            node: Node::from(network),
            rules,
            leases: cluster.peers.clone(),
            news: BTreeMap::new(),
            cluster: Cluster { own: cluster.own, peers: BTreeMap::new() },
            kernel: network.fake(),
            waiting: Vec::new(),
            reconciler: Reconciler::default(),
            full_runs: 0,
            transition: Transition::default(),
            now: Duration::ZERO,
        }
    }

    pub(super) fn store(&mut self, peer: &Peer) {
        self.store_lease(self.network.lease(peer).into());
    }

    pub(super) fn store_lease(&mut self, lease: Arc<Lease>) {
        self.news.insert(lease.node.clone(), Some(lease.clone()));
        self.leases.insert(lease.node.clone(), lease);
    }

    pub(super) fn remove(&mut self, n: u8) {
        self.news.insert(node_name(n), None);
        self.leases.remove(&node_name(n));
    }

    pub(super) fn lose(&mut self) {
        self.waiting = vec![Event::Overrun];
    }

    /// Works until nothing is left to do, as the daemon does.
    pub(super) fn work(&mut self) {
        for _ in 0..10 {
            self.reconciler.notify(std::mem::take(&mut self.waiting));
            let is_first = self.reconciler.outcome().is_none();
            if !is_first && self.news.is_empty() && !self.reconciler.engine.is_dirty() {
                return;
            }
            // As the daemon does while the rate limit delays a full run.
            let needs_full = self.reconciler.engine.needs_full();
            let before = self.kernel.clone();
            let news = std::mem::take(&mut self.news);
            // Each run is at a time of its own, so that no key becomes contested.
            self.now += ::reconcile::backoff::WINDOW;
            let updated = self.reconciler.update(&mut self.kernel, &mut self.cluster, news, self.now);
            self.waiting.extend(events(&before, &self.kernel, OWN));
            if updated.is_none() || needs_full {
                self.full();
            }
        }
        panic!("it never comes to an end");
    }

    pub(super) fn work_in_full(&mut self) {
        self.waiting.clear();
        self.full();
        self.full();
        self.waiting.clear();
    }

    fn full(&mut self) {
        self.full_runs += 1;
        self.news.clear();
        let candidates = self.leases.values().cloned();
        let rules = self.node.admission_rules(&[]);
        let (cluster, admission) =
            Admission::new(self.cluster.own.clone(), candidates, |lease| self.cluster.has_all_of(lease), rules);
        self.cluster = cluster;
        self.waiting.clear();
        let before = self.kernel.clone();
        let Planned { plan, outcome, observed, peers, .. } = self.planned();
        let report = reconcile::apply(&mut self.kernel, plan);
        self.waiting = events(&before, &self.kernel, OWN);
        self.cluster.own.encapsulations = Some(outcome.advertised.clone());
        let (is_clean, conflicts) = (report.is_clean(), report.conflicts);
        let full = FullRun { outcome, peers, admission, observed, conflicts, unmade: BTreeSet::new(), is_clean };
        self.reconciler.adopt(full, &self.node, OWN, false);
    }

    fn planned(&mut self) -> Planned {
        let kernel = &mut self.kernel;
        let host = observe::host(kernel, &self.node.identity).expect("a readable kernel");
        let planned = reconcile::plan(kernel, host, &self.node, &self.cluster, self.rules, &self.transition, None);
        planned.expect("a network that can be carried")
    }

    /// What a full run would do that is not in the way of somebody else's.
    pub(super) fn plan_of_a_full_run(&mut self) -> Plan {
        Plan { conflicts: Vec::new(), ..self.planned().plan }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        snapshot(&self.kernel)
    }

    pub(super) fn injure(&mut self, injury: Injury, at: usize) {
        let before = self.kernel.clone();
        injure(&mut self.kernel, injury, at);
        self.waiting.extend(events(&before, &self.kernel, OTHER));
    }
}

fn injure(kernel: &mut Fake, injury: Injury, at: usize) {
    // The two kernels hold the same in different orders.
    kernel.routes.sort();
    kernel.neighbours.sort_by_key(|entry| entry.address);
    kernel.fdb.sort_by_key(|entry| (entry.mac, entry.destination));
    let ours = |route: &Route| route.protocol.0 == 110;
    let picked = |places: Vec<usize>| (!places.is_empty()).then(|| places[at % places.len()]);
    let routes = |kernel: &Fake| kernel.routes.iter().enumerate().filter(|(_, r)| ours(r)).map(|(n, _)| n).collect();
    let device = kernel.links.iter().find(|link| link.alias.as_deref() == Some("netd")).cloned();
    let place = |count: usize| (count > 0).then(|| at % count);
    match injury {
        Injury::RouteGone => drop(picked(routes(kernel)).map(|place| kernel.routes.remove(place))),
        Injury::RouteBent => {
            if let Some(place) = picked(routes(kernel)) {
                let route = &mut kernel.routes[place];
                (route.gateway, route.index, route.onlink, route.protocol) = (None, 1, false, RouteProtocol(3));
            }
        }
        Injury::RouteOfOurs => stray(kernel, "10.244.99.0/24", 110),
        Injury::RouteInOurPlace => {
            if let Some(place) = picked(routes(kernel)) {
                let route = &mut kernel.routes[place];
                (route.gateway, route.index, route.onlink, route.protocol) = (None, 1, false, RouteProtocol(4));
            }
        }
        Injury::RouteToNowhere | Injury::RouteToNowhereOfOthers => {
            if let Some(place) = picked(routes(kernel)) {
                let protocol = RouteProtocol(if injury == Injury::RouteToNowhere { 3 } else { 4 });
                let Route { destination, metric, .. } = kernel.routes[place];
                let (gateway, index, onlink, kind) = (None, 1, false, RouteKind::Unreachable);
                kernel.routes[place] = Route { destination, gateway, index, onlink, protocol, metric, kind };
            }
        }
        Injury::RouteOfOthers => stray(kernel, "192.168.2.0/24", 4),
        Injury::NeighbourGone => drop(place(kernel.neighbours.len()).map(|place| kernel.neighbours.remove(place))),
        Injury::NeighbourBent => {
            if let Some(place) = place(kernel.neighbours.len()) {
                kernel.neighbours[place].mac = Some(mac(200));
            }
        }
        Injury::NeighbourExtra => {
            if let (Some(device), Some(place)) = (device, place(kernel.neighbours.len())) {
                let entry = kernel.neighbours[place];
                let address = if entry.address.is_ipv4() { "10.244.99.0" } else { "fd00:10:0:99::" };
                let address = address.parse().expect("an address");
                kernel.neighbours.retain(|entry| entry.address != address);
                kernel.neighbours.push(dataplane::neighbour::Neighbour { index: device.index, address, ..entry });
            }
        }
        Injury::EndGone => drop(place(kernel.fdb.len()).map(|place| kernel.fdb.remove(place))),
        Injury::EndBent => {
            if let Some(place) = place(kernel.fdb.len()) {
                let is_v4 = kernel.fdb[place].destination.is_ipv4();
                let elsewhere = if is_v4 { "192.168.1.77" } else { "fd00:1::77" };
                kernel.fdb[place].destination = elsewhere.parse().expect("an address");
            }
        }
        Injury::EndExtra => {
            if let Some(place) = place(kernel.fdb.len()) {
                let entry = dataplane::neighbour::Fdb { mac: mac(222), ..kernel.fdb[place] };
                kernel.fdb.retain(|known| (known.index, known.mac) != (entry.index, entry.mac));
                kernel.fdb.push(entry);
            }
        }
        Injury::DeviceGone => {
            if let Some(device) = device {
                let outcome = kernel.apply(&[dataplane::op::Op::DeleteLink(device.name)]);
                assert!(outcome.iter().all(Result::is_ok), "{outcome:?}");
            }
        }
        Injury::DeviceDown | Injury::AliasGone => {
            if let Some(link) =
                device.and_then(|device| kernel.links.iter_mut().find(|link| link.index == device.index))
            {
                match injury {
                    Injury::DeviceDown => link.up = false,
                    _ => link.alias = Some("hand".to_owned()),
                }
            }
        }
        Injury::AddressGone => {
            let ours = |address: &dataplane::address::Address| Some(address.index) == device.as_ref().map(|d| d.index);
            kernel.addresses.retain(|address| !ours(address));
        }
        Injury::TableGone => kernel.tables.clear(),
    }
}

/// A route out of eth0, once.
fn stray(kernel: &mut Fake, destination: &str, protocol: u8) {
    let destination = prefix(destination);
    kernel.routes.retain(|route| route.destination != destination);
    let (gateway, protocol) = (None, RouteProtocol(protocol));
    kernel.routes.push(Route {
        destination,
        gateway,
        index: 1,
        onlink: false,
        protocol,
        metric: 0,
        kind: RouteKind::Unicast,
    });
}

/// The kernel's notifications from one state to another. An object that goes with a device has none.
pub(super) fn events(before: &Fake, after: &Fake, origin: u32) -> Vec<Event> {
    let mut events = Vec::new();
    let gone_links: Vec<u32> = missing(&before.links, &after.links, |link| link.index).map(|link| link.index).collect();
    for link in missing(&before.links, &after.links, |link| link.index) {
        events.push(Event::Deleted(RtnetlinkObject::Link(Box::new(link.clone()))));
    }
    for link in after.links.iter().filter(|link| !before.links.contains(link)) {
        events.push(Event::New(RtnetlinkObject::Link(Box::new(link.clone()))));
    }
    for address in missing(&before.addresses, &after.addresses, |address| *address) {
        events.push(Event::Deleted(RtnetlinkObject::Address(*address)));
    }
    events
        .extend(missing(&after.addresses, &before.addresses, |a| *a).map(|a| Event::New(RtnetlinkObject::Address(*a))));
    let lost = |index: &u32| gone_links.contains(index);
    let place = |route: &Route| (route.destination, route.metric);
    let gone: Vec<_> = missing(&before.routes, &after.routes, |r| *r).filter(|route| !lost(&route.index)).collect();
    let come: Vec<_> = missing(&after.routes, &before.routes, |route| *route).collect();
    for route in gone.iter().filter(|gone| !come.iter().any(|come| place(come) == place(gone))) {
        events.push(Event::Deleted(RtnetlinkObject::Route(**route)));
    }
    for route in come {
        let replaces = gone.iter().any(|gone| place(gone) == place(route));
        events.push(if replaces { Event::Replaced(*route) } else { Event::New(RtnetlinkObject::Route(*route)) });
    }
    for entry in missing(&before.neighbours, &after.neighbours, |entry| (entry.index, entry.address)) {
        if !lost(&entry.index) {
            events.push(Event::Deleted(RtnetlinkObject::Neighbour(*entry)));
        }
    }
    events.extend(
        missing(&after.neighbours, &before.neighbours, |e| *e).map(|e| Event::New(RtnetlinkObject::Neighbour(*e))),
    );
    for entry in missing(&before.fdb, &after.fdb, |entry| (entry.index, entry.mac)) {
        if !lost(&entry.index) {
            events.push(Event::Deleted(RtnetlinkObject::Fdb(*entry)));
        }
    }
    events
        .extend(missing(&after.fdb, &before.fdb, |entry| *entry).map(|entry| Event::New(RtnetlinkObject::Fdb(*entry))));
    let tables = before.tables.keys().chain(after.tables.keys());
    for table in tables.filter(|id| before.tables.get(*id) != after.tables.get(*id)).collect::<BTreeSet<_>>() {
        let (table, subject, action) = (table.clone(), nft::Subject::Table, nft::Action::New);
        events.push(Event::Table(nft::TableChange { table, subject, action, origin }));
    }
    events
}

/// Those of `these` of which `from` has none with the same key.
fn missing<'t, T, K: PartialEq>(these: &'t [T], from: &[T], key: impl Fn(&T) -> K) -> impl Iterator<Item = &'t T> {
    let keys: Vec<K> = from.iter().map(&key).collect();
    these.iter().filter(move |this| !keys.contains(&key(this)))
}
