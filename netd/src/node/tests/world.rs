//! Nodes that change their backend, as a model: what each one does in a step, and which packets are lost then. What a node publishes and
//! may do follows from the daemon's own [`OwnAdvertisement`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use dataplane::link::{Kind, Link};
use dataplane::types::{Family, IfName, PerFamily};
use network::backend::PeerRoute;
use network::backend::encapsulation_of;
use network::fixtures::{V4, address, name, node_name, prefix, vxlan};
use network::interface::Underlay;
use network::model::{Cluster, Lease, NodeName};
use network::net_conf::NetConf;
use network::overlay::transition::{Transition, reverse_path_key};
use network::overlay::{Input, Outcome, build, forward};

use crate::bridge::BRIDGE;
use crate::daemon::advertisement::{DRAIN, OwnAdvertisement};

/// Those that are there from the beginning on.
pub(super) const NODES: [u8; 3] = [1, 2, 3];
/// One that may join them, at the place behind them.
const LATE: u8 = 4;

pub(super) const BACKENDS: [&str; 6] = [
    r#"{"Type": "vxlan"}"#,
    r#"{"Type": "host-gw"}"#,
    r#"{"Type": "vxlan", "VNI": 7}"#,
    r#"{"Type": "vxlan", "VNI": 7, "DirectRouting": true}"#,
    r#"{"Type": "vxlan", "VNI": 7, "Port": 4789, "DirectRouting": true}"#,
    r#"{"Type": "vxlan", "VNI": 7, "Port": 4789, "MTU": 1400}"#,
];

fn conf(backend: usize) -> NetConf {
    let text = format!(r#"{{"Network": "10.244.0.0/16", "Backend": {}}}"#, BACKENDS[backend]);
    NetConf::parse(&text).expect("a right net-conf.json").0
}

/// Something that happens at one node; numbers of nodes count from 0.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// One more node begins, with a configuration: it has a record, and has read those of the others.
    Join(usize),
    /// It is given another configuration.
    Configure(usize, usize),
    /// An event brings it another one's record as that is now.
    Event(usize, usize),
    /// Its run goes on: it plans, or applies the plan, or wants to publish the result.
    GoOn(usize),
    /// Its publisher goes on: begins a write or a read, does it, or answers.
    Publish(usize),
    /// It ends its run, receives all events, and goes through a whole run with all that is to be published and read for it.
    Run(usize),
    /// Its encapsulations have drained.
    Drain(usize),
}

/// How far a node is in its run.
#[derive(Debug, Clone)]
enum Stage {
    Idle,
    Planned(Box<Outcome>),
    Applied(Box<Outcome>),
}

/// How far a node's publisher is.
#[derive(Debug, Clone)]
enum Publisher {
    Idle,
    /// It was asked to write this.
    Writing(Lease),
    /// The store has it, and the node does not know that yet.
    Written(Lease),
    /// It was asked to read, at this time.
    Reading(Duration),
    /// It has read this, and the node does not know it yet.
    Read(Duration, BTreeMap<NodeName, Lease>),
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of the node by itself")]
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) n: u8,
    pub(super) conf: NetConf,
    /// This node's lease; its encapsulations are all that peers may rely on.
    pub(super) own: Lease,
    advertisement: OwnAdvertisement,
    /// Its clock.
    now: Duration,
    /// It is ready: it may have pods.
    ready: bool,
    /// A run is to follow an event or a read.
    run_due: bool,
    /// It has done what followed from the first publication of the one that joins.
    met_late: bool,
    /// The others' records as it knows them.
    known: BTreeMap<NodeName, Lease>,
    stage: Stage,
    publisher: Publisher,
    /// The kernel: devices, the ways to the others' pods, and whether its reverse-path filters are strict.
    links: BTreeMap<IfName, Link>,
    pub(super) ways: BTreeMap<(NodeName, Family), PeerRoute>,
    /// The others that it names as out of reach.
    unreachable: BTreeSet<NodeName>,
    /// It waits with ways until it has published by which it sends.
    is_publishing: bool,
    strict: bool,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    store: BTreeMap<NodeName, Lease>,
    /// Those that the one that joins has reached and that have reached it, at one moment: from then on no packet may be lost.
    connected: BTreeSet<u8>,
}

fn link(name: &IfName, index: u32, kind: Kind) -> Link {
    let lower = (index > 1).then_some(1);
    Link {
        index,
        name: name.clone(),
        up: true,
        carrier: true,
        mtu: 1500,
        mac: None,
        master: None,
        lower,
        alias: None,
        kind,
        port: None,
    }
}

impl Node {
    fn new(n: u8) -> Self {
        let own = Lease {
            node: node_name(n),
            subnets: PerFamily { v4: Some(prefix(&format!("10.244.{n}.0/24"))), v6: None },
            public: PerFamily { v4: Some(address(&format!("192.168.1.{n}"))), v6: None },
            backend: conf(0).backend.kind(),
            data: PerFamily::none(),
            encapsulations: None,
        };
        let eth0 = name("eth0");
        let links = BTreeMap::from([(eth0.clone(), link(&eth0, 1, Kind::Other(String::new())))]);
        let mut node = Self {
            n,
            conf: conf(0),
            advertisement: OwnAdvertisement::new(&own),
            own,
            // Long after its start, so that a first publication is late.
            now: 10 * DRAIN,
            ready: false,
            run_due: false,
            met_late: false,
            known: BTreeMap::new(),
            stage: Stage::Idle,
            publisher: Publisher::Idle,
            links,
            ways: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            is_publishing: false,
            strict: true,
        };
        node.configure(0);
        node
    }

    /// As the daemon takes a configuration: its own lease changes, what it has published does not.
    fn configure(&mut self, backend: usize) {
        self.conf = conf(backend);
        let underlay = self.underlay();
        let devices = self.conf.backend.tunnel_devices([Family::V4].into_iter(), &underlay);
        let tunnel_devices = devices.expect("a network that can be carried");
        let (name, identity) = (self.own.node.clone(), vxlan(V4, V4).identity());
        let (conf, public, subnet_len) = (self.conf.clone(), PerFamily::none(), PerFamily::none());
        let bridge = BRIDGE;
        let place = super::super::Node { name, conf, underlay, tunnel_devices, identity, public, subnet_len, bridge };
        let request = place.request(&self.links, Vec::new(), Some(&self.own), Path::new("/nowhere"));
        self.own.backend = request.backend;
        self.own.data = request.data.map(|family, request| request.data(self.own.data.get(family)));
    }

    fn underlay(&self) -> Underlay {
        let network = vxlan(V4, V4);
        let addresses = PerFamily { v4: Some(address(&format!("192.168.1.{}", self.n))), v6: None };
        Underlay { addresses, public: addresses, ..network.underlay(1) }
    }

    fn decide(&self) -> Outcome {
        let network = vxlan(V4, V4);
        let peers = self.known.iter().filter(|(node, _)| **node != self.own.node);
        let peers = peers.map(|(node, lease)| (node.clone(), lease.clone().into())).collect();
        let routes: Vec<_> = network.underlay_routes().iter().map(|route| route.with_index(1)).collect();
        let filters = self.links.keys().map(|link| (reverse_path_key(link.as_str()), "1".to_owned()));
        build(&Input {
            conf: &self.conf,
            cluster: &Cluster { own: self.own.clone(), peers },
            underlay: &self.underlay(),
            identity: &network.identity(),
            masquerade: None,
            forward_rules: false,
            routes: &routes,
            links: &self.links,
            reverse_path: &filters.collect(),
            transition: &Transition {
                draining: self.advertisement.draining(),
                may_send: self.advertisement.may_send.clone(),
                ..Transition::default()
            },
            forward_chains: &[],
            others: &forward::Others::default(),
            bridge_name: &name("cni0"),
            bridge: None,
        })
        .expect("a network that can be carried")
        .0
    }

    fn act(&mut self, outcome: &Outcome) {
        self.links.retain(|_, link| link.index == 1);
        for (index, (name, device)) in (2..).zip(&outcome.desired.devices) {
            let device_link = link(name, index, Kind::Tunnel(device.tunnel.clone()));
            let alias = Some("netd".to_owned());
            self.links.insert(name.clone(), Link { mac: device.mac, alias, ..device_link });
        }
        self.ways.clone_from(&outcome.peer_routes);
        self.unreachable = outcome.unreachable.keys().map(|(node, _)| node.clone()).collect();
        self.is_publishing = !outcome.unpublished.is_empty();
        self.strict = outcome.one_way;
        self.met_late |= self.known.get(&node_name(LATE)).is_some_and(|lease| lease.encapsulations.is_some());
    }

    /// True but for a node that joined and has published that since this one did something: that takes a moment.
    fn has_met(&self, other: &Node) -> bool {
        other.n != LATE || self.met_late
    }

    fn way_to(&self, other: &Node) -> Option<PeerRoute> {
        self.ways.get(&(other.own.node.clone(), Family::V4)).copied()
    }

    /// True where packets to the other one arrive.
    fn reaches(&self, other: &Node) -> bool {
        self.way_to(other).is_some_and(|way| other.is_open(way) && other.is_let_in(way, self))
    }

    /// True where this node has no way to a node that it has not reached so far, and says so or is about to have one.
    fn names(&self, other: &Node) -> bool {
        self.way_to(other).is_none() && (self.is_publishing || self.unreachable.contains(&other.own.node))
    }

    /// True where packets that are sent here in that way have an open end.
    fn is_open(&self, way: PeerRoute) -> bool {
        let is_end = |link: &Link| {
            encapsulation_of(link).is_some_and(|(there, _)| there == way.encapsulation) && link.mac == way.mac
        };
        way.is_direct() || self.links.values().any(is_end)
    }

    /// True where no reverse-path filter drops a packet that is sent here in that way.
    fn is_let_in(&self, way: PeerRoute, from: &Node) -> bool {
        let back = self.way_to(from).map(|route| route.encapsulation);
        !self.strict || !self.has_met(from) || back == Some(way.encapsulation)
    }
}

impl Step {
    /// Whose it is.
    fn place(self) -> Option<usize> {
        match self {
            Step::Join(_) => None,
            Step::Configure(at, _) | Step::GoOn(at) | Step::Publish(at) | Step::Run(at) | Step::Drain(at) => Some(at),
            Step::Event(at, of) => Some(at.max(of)),
        }
    }
}

impl World {
    /// All nodes run the first backend, and all is quiet.
    pub(super) fn new() -> Self {
        let nodes: Vec<_> = NODES.into_iter().map(Node::new).collect();
        let store = nodes.iter().map(|node| (node.own.node.clone(), node.own.clone())).collect();
        let mut world = Self { nodes, store, connected: BTreeSet::new() };
        world.calm_down();
        world
    }

    pub(super) fn step(&mut self, step: Step) {
        self.take(step);
        if let Some(late) = self.nodes.get(NODES.len()) {
            let both = |node: &&Node| node.reaches(late) && late.reaches(node);
            self.connected.extend(self.nodes.iter().filter(both).map(|node| node.n));
        }
    }

    fn take(&mut self, step: Step) {
        if step.place().is_some_and(|at| at >= self.nodes.len()) {
            return;
        }
        match step {
            Step::Join(backend) if self.nodes.len() == NODES.len() => {
                let mut node = Node::new(LATE);
                node.configure(backend);
                node.advertisement = OwnAdvertisement::new(&node.own);
                self.store.insert(node.own.node.clone(), node.own.clone());
                self.nodes.push(node);
                self.receive_all(NODES.len());
            }
            Step::Configure(at, backend) if matches!(self.nodes[at].stage, Stage::Idle) => {
                self.nodes[at].configure(backend);
            }
            Step::Event(at, of) if at != of && matches!(self.nodes[at].stage, Stage::Idle) => self.receive(at, of),
            Step::GoOn(at) => self.go_on(at),
            Step::Publish(at) => self.publish(at),
            Step::Run(at) => {
                self.finish(at);
                self.receive_all(at);
                self.go_on(at);
                self.finish(at);
            }
            Step::Drain(at) => self.nodes[at].now += DRAIN,
            _ => {}
        }
    }

    fn receive(&mut self, at: usize, of: usize) {
        let record = self.store[&self.nodes[of].own.node].clone();
        let node = &mut self.nodes[at];
        node.run_due |= node.known.insert(record.node.clone(), record.clone()) != Some(record);
    }

    fn receive_all(&mut self, at: usize) {
        (0..self.nodes.len()).filter(|of| *of != at).for_each(|of| self.receive(at, of));
    }

    fn go_on(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.stage = match std::mem::replace(&mut node.stage, Stage::Idle) {
            Stage::Idle => {
                node.run_due = false;
                Stage::Planned(Box::new(node.decide()))
            }
            Stage::Planned(outcome) => {
                node.act(&outcome);
                Stage::Applied(outcome)
            }
            Stage::Applied(outcome) => {
                let restricted = !outcome.unpublished.is_empty();
                node.advertisement
                    .want(Lease { encapsulations: Some(outcome.advertised), ..node.own.clone() }, restricted);
                node.ready |= node.advertisement.may_have_pods();
                Stage::Idle
            }
        };
    }

    fn publish(&mut self, at: usize) {
        let store = &mut self.store;
        let node = &mut self.nodes[at];
        // The store is written and read at any time; the node asks for it and takes the answer between two runs.
        if !matches!(
            (&node.stage, &node.publisher),
            (Stage::Idle, _) | (_, Publisher::Writing(_) | Publisher::Reading(_))
        ) {
            return;
        }
        node.publisher = match std::mem::replace(&mut node.publisher, Publisher::Idle) {
            Publisher::Idle
                if node.advertisement.wanted.encapsulations.is_some()
                    && node.advertisement.wanted != store[&node.own.node] =>
            {
                let lease = node.advertisement.begin_write();
                Publisher::Writing(lease)
            }
            Publisher::Idle if node.advertisement.needs_read(node.now) => Publisher::Reading(node.now),
            Publisher::Idle => Publisher::Idle,
            Publisher::Writing(lease) => {
                store.insert(lease.node.clone(), lease.clone());
                Publisher::Written(lease)
            }
            Publisher::Written(lease) => {
                node.advertisement.written(lease, node.now);
                node.ready |= node.advertisement.may_have_pods();
                Publisher::Idle
            }
            Publisher::Reading(begun) => Publisher::Read(begun, store.clone()),
            Publisher::Read(begun, mut leases) => {
                leases.remove(&node.own.node);
                let changed = std::mem::replace(&mut node.known, leases.clone()) != leases;
                let effect = node.advertisement.read(begun, changed || node.run_due);
                node.run_due |= changed || effect.may_send_more || effect.drained || effect.run_due;
                node.ready |= node.advertisement.may_have_pods();
                Publisher::Idle
            }
        };
        if matches!(node.stage, Stage::Idle) {
            node.own.encapsulations = node.advertisement.support();
        }
    }

    /// Ends the run and all that is to be published and read, with the runs that follow from that.
    pub(super) fn finish(&mut self, at: usize) {
        loop {
            let node = &self.nodes[at];
            let is_idle = matches!(node.publisher, Publisher::Idle);
            if !matches!(node.stage, Stage::Idle) || is_idle && node.run_due {
                self.go_on(at);
            } else if !is_idle
                || node.advertisement.wanted.encapsulations.is_some()
                    && node.advertisement.wanted != self.store[&node.own.node]
                || node.advertisement.needs_read(node.now)
            {
                self.publish(at);
            } else {
                return;
            }
        }
    }

    /// Every node receives and does everything, again and again.
    pub(super) fn calm_down(&mut self) {
        for _ in 0..12 {
            (0..self.nodes.len()).for_each(|at| self.step(Step::Run(at)));
            (0..self.nodes.len()).for_each(|at| self.step(Step::Drain(at)));
        }
    }

    /// Who loses packets now, as sentences.
    pub(super) fn losses(&self) -> Vec<String> {
        let pairs = self.nodes.iter().flat_map(|from| self.nodes.iter().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from.n != to.n && from.ready && to.ready && from.has_met(to));
        let lost = pairs.filter_map(|(from, to)| {
            // Two that have never reached each other may have no way, and then one names the other.
            let is_new = [from, to].iter().any(|node| node.n == LATE)
                && ![from, to].iter().any(|node| self.connected.contains(&node.n));
            match from.way_to(to) {
                None if is_new && from.names(to) => None,
                None => Some(format!("node {} has no way to node {}", from.n, to.n)),
                Some(way) if to.is_open(way) && (to.is_let_in(way, from) || is_new && to.names(from)) => None,
                Some(way) => Some(format!(
                    "node {} sends to node {} by {}, which that does not receive (strict: {})",
                    from.n, to.n, way.encapsulation, to.strict
                )),
            }
        });
        lost.collect()
    }
}
