//! Nodes that change their backend, as a model: what each one does in a step, and who loses packets then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dataplane::link::{Kind, Link};
use dataplane::types::{Family, IfName, PerFamily};
use network::backend::encapsulation_of;
use network::fixtures::{V4, address, name, node_name, prefix, vxlan};
use network::interface::Underlay;
use network::model::{Cluster, Encapsulation, Lease, NodeName};
use network::net_conf::NetConf;
use network::overlay::peer_route::PeerRoute;
use network::overlay::transition::{Transition, reverse_path_key};
use network::overlay::{Input, Outcome, desired, forward};

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
    /// It hears what another one's record says now.
    Hear(usize, usize),
    /// It goes on: decides, or does what it has decided, or tells its peers.
    GoOn(usize),
    /// It ends its reconcile, hears all there is, and goes through a whole one.
    Run(usize),
    /// Its ways have lingered: it hears all there is and closes them.
    LetGo(usize),
}

/// Where a node stands in its reconcile.
#[derive(Debug, Clone)]
enum Stage {
    Idle,
    /// It has told by what it sends, or will, and not heard yet who receives that.
    Told,
    Decided(Box<Outcome>),
    Done(Box<Outcome>),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) n: u8,
    pub(super) conf: NetConf,
    pub(super) own: Lease,
    /// It is ready: it may have pods.
    ready: bool,
    /// It has done what followed from the first words of the one that joins.
    met_late: bool,
    /// The others' records as it heard them.
    heard: BTreeMap<NodeName, Lease>,
    lingering: BTreeSet<Encapsulation>,
    stage: Stage,
    /// The kernel: devices, the ways to the others' pods, and whether its reverse-path filters are strict.
    links: BTreeMap<IfName, Link>,
    pub(super) ways: BTreeMap<(NodeName, Family), PeerRoute>,
    strict: bool,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    store: BTreeMap<NodeName, Lease>,
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
            own,
            ready: false,
            met_late: false,
            heard: BTreeMap::new(),
            lingering: BTreeSet::new(),
            stage: Stage::Idle,
            links,
            ways: BTreeMap::new(),
            strict: true,
        };
        node.configure(0);
        node
    }

    /// As the daemon takes a configuration: its own lease changes, what it told does not.
    fn configure(&mut self, backend: usize) {
        self.conf = conf(backend);
        let underlay = self.underlay();
        let devices = self.conf.backend.tunnel_devices([Family::V4].into_iter(), &underlay);
        let tunnel_devices = devices.expect("a network that can be carried");
        let (name, identity) = (self.own.node.clone(), vxlan(V4, V4).identity());
        let (conf, public) = (self.conf.clone(), PerFamily::none());
        let place = super::super::Node { name, conf, underlay, tunnel_devices, identity, public };
        let request = place.request(&self.links, Some(&self.own), Path::new("/nowhere"));
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
        let peers = self.heard.iter().filter(|(node, _)| **node != self.own.node);
        let peers = peers.map(|(node, lease)| (node.clone(), lease.clone().into())).collect();
        let routes: Vec<_> = network.underlay_routes().iter().map(|route| route.with_index(1)).collect();
        let filters = self.links.keys().map(|link| (reverse_path_key(link.as_str()), "1".to_owned()));
        desired(&Input {
            conf: &self.conf,
            cluster: &Cluster { own: self.own.clone(), peers },
            underlay: &self.underlay(),
            identity: &network.identity(),
            masquerade: None,
            forward_rules: false,
            routes: &routes,
            links: &self.links,
            reverse_path: &filters.collect(),
            transition: &Transition { draining: self.lingering.clone(), ..Transition::default() },
            forward_chains: &[],
            others: &forward::Others::default(),
        })
        .expect("a network that can be carried")
    }

    fn act(&mut self, outcome: &Outcome) {
        self.links.retain(|_, link| link.index == 1);
        for (index, (name, device)) in (2..).zip(&outcome.desired.devices) {
            let device_link = link(name, index, Kind::Tunnel(device.tunnel.clone()));
            let alias = Some("netd".to_owned());
            self.links.insert(name.clone(), Link { mac: device.mac, alias, ..device_link });
        }
        self.ways.clone_from(&outcome.peer_routes);
        self.strict = outcome.one_way;
        self.met_late |= self.heard.get(&node_name(LATE)).is_some_and(|lease| lease.encapsulations.is_some());
    }

    /// True but for a node that joined and has told so since this one did something: that takes a moment.
    fn has_met(&self, other: &Node) -> bool {
        other.n != LATE || self.met_late
    }

    /// True where a packet that is sent here in that way is taken in.
    fn receives(&self, way: PeerRoute, from: &Node) -> bool {
        let is_end = |link: &Link| {
            encapsulation_of(link).is_some_and(|(there, _)| there == way.encapsulation) && link.mac == way.mac
        };
        let is_open = way.is_direct() || self.links.values().any(is_end);
        let back = self.ways.get(&(from.own.node.clone(), Family::V4)).map(|route| route.encapsulation);
        is_open && (!self.strict || !self.has_met(from) || back == Some(way.encapsulation))
    }
}

impl Step {
    /// Whose it is.
    fn place(self) -> Option<usize> {
        match self {
            Step::Join(_) => None,
            Step::Configure(at, _) | Step::GoOn(at) | Step::Run(at) | Step::LetGo(at) => Some(at),
            Step::Hear(at, of) => Some(at.max(of)),
        }
    }
}

impl World {
    /// All nodes run the first backend, and all is quiet.
    pub(super) fn new() -> Self {
        let nodes: Vec<_> = NODES.into_iter().map(Node::new).collect();
        let store = nodes.iter().map(|node| (node.own.node.clone(), node.own.clone())).collect();
        let mut world = Self { nodes, store };
        world.calm_down();
        world
    }

    pub(super) fn step(&mut self, step: Step) {
        if step.place().is_some_and(|at| at >= self.nodes.len()) {
            return;
        }
        match step {
            Step::Join(backend) if self.nodes.len() == NODES.len() => {
                let mut node = Node::new(LATE);
                node.configure(backend);
                self.store.insert(node.own.node.clone(), node.own.clone());
                self.nodes.push(node);
                self.hear_all(NODES.len());
            }
            Step::Configure(at, backend) if matches!(self.nodes[at].stage, Stage::Idle) => {
                self.nodes[at].configure(backend);
            }
            Step::Hear(at, of) if at != of && matches!(self.nodes[at].stage, Stage::Idle) => self.hear(at, of),
            Step::GoOn(at) => self.go_on(at),
            Step::Run(at) => {
                self.finish(at);
                self.hear_all(at);
                self.go_on(at);
                self.finish(at);
            }
            Step::LetGo(at) if matches!(self.nodes[at].stage, Stage::Idle) => {
                self.hear_all(at);
                self.nodes[at].lingering.clear();
            }
            _ => {}
        }
    }

    fn hear(&mut self, at: usize, of: usize) {
        let record = self.store[&self.nodes[of].own.node].clone();
        self.nodes[at].heard.insert(record.node.clone(), record);
    }

    fn hear_all(&mut self, at: usize) {
        (0..self.nodes.len()).filter(|of| *of != at).for_each(|of| self.hear(at, of));
    }

    fn go_on(&mut self, at: usize) {
        if matches!(self.nodes[at].stage, Stage::Told) {
            self.hear_all(at);
        }
        let node = &mut self.nodes[at];
        match node.stage.clone() {
            Stage::Idle | Stage::Told => {
                let outcome = node.decide();
                match node.own.encapsulations.as_ref().and_then(|support| support.sending_too(&outcome.advertised)) {
                    Some(support) => {
                        node.own.encapsulations = Some(support);
                        self.store.insert(node.own.node.clone(), node.own.clone());
                        node.stage = Stage::Told;
                    }
                    None => node.stage = Stage::Decided(Box::new(outcome)),
                }
            }
            Stage::Decided(outcome) => {
                node.act(&outcome);
                node.stage = Stage::Done(outcome);
            }
            Stage::Done(outcome) => {
                // Who has told nothing before reads once more what the others receive, before pods are there.
                node.ready = node.own.encapsulations.is_some();
                node.stage = if node.ready { Stage::Idle } else { Stage::Told };
                let told = Lease { encapsulations: Some(outcome.advertised.clone()), ..node.own.clone() };
                if self.store.get(&told.node) != Some(&told) || told != node.own {
                    let former = node.own.encapsulations.iter().flat_map(|support| support.receives.keys().copied());
                    let is_closed = |one: &Encapsulation| !outcome.advertised.receives.contains_key(one);
                    node.lingering.extend(former.filter(is_closed));
                    node.own = told.clone();
                    self.store.insert(told.node.clone(), told);
                }
            }
        }
    }

    pub(super) fn finish(&mut self, at: usize) {
        while !matches!(self.nodes[at].stage, Stage::Idle) {
            self.go_on(at);
        }
    }

    /// Everybody hears and does everything, again and again.
    pub(super) fn calm_down(&mut self) {
        for _ in 0..12 {
            (0..self.nodes.len()).for_each(|at| self.step(Step::Run(at)));
            (0..self.nodes.len()).for_each(|at| self.step(Step::LetGo(at)));
        }
    }

    /// Who loses packets now, as sentences.
    pub(super) fn losses(&self) -> Vec<String> {
        let pairs = self.nodes.iter().flat_map(|from| self.nodes.iter().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from.n != to.n && from.ready && to.ready && from.has_met(to));
        let lost = pairs.filter_map(|(from, to)| match from.ways.get(&(to.own.node.clone(), Family::V4)) {
            None => Some(format!("node {} has no way to node {}", from.n, to.n)),
            Some(way) if to.receives(*way, from) => None,
            Some(way) => Some(format!(
                "node {} sends to node {} by {}, which that does not receive (strict: {})",
                from.n, to.n, way.encapsulation, to.strict
            )),
        });
        lost.collect()
    }
}
