//! A change of the backend, node by node, with every pause that there can be: between hearing of a peer's record, deciding, doing,
//! telling, and closing what nobody uses any more. Three nodes on one segment; the addresses are in [`super::network`].
//!
//! At every moment each node must receive what the others send to it, in the manner that they send it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dataplane::link::{Kind, Link};
use dataplane::words::{Family, IfName, PerFamily};
use proptest::collection::vec;
use proptest::prelude::*;

use super::network::{V4, address, name, node_name, prefix, vxlan};
use crate::config::net_conf::{Backend, NetConf};
use crate::interface::Underlay;
use crate::model::{Cluster, Lease, Manner, NodeName, Vtep, Ways};
use crate::overlay::carrier;
use crate::overlay::transition::{Transition, reverse_path_key};
use crate::overlay::way::Way;
use crate::overlay::{Input, Outcome, desired, forward};

const NODES: [u8; 3] = [1, 2, 3];

const BACKENDS: [&str; 6] = [
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
enum Step {
    /// It is given another configuration.
    Configure(usize, usize),
    /// It hears what another one's record says now.
    Hear(usize, usize),
    /// It goes on: decides, or does what it has decided, or tells its peers.
    GoOn(usize),
    /// It ends its reconcile, hears all there is, and goes through a whole one.
    Run(usize),
    /// Its ways that linger have lingered long enough.
    LetGo(usize),
}

/// Where a node stands in its reconcile.
#[derive(Debug, Clone)]
enum Stage {
    Idle,
    Decided(Box<Outcome>),
    Done(Box<Outcome>),
}

#[derive(Debug, Clone)]
struct Node {
    n: u8,
    conf: NetConf,
    own: Lease,
    /// The others' records as it heard them.
    heard: BTreeMap<NodeName, Lease>,
    lingering: BTreeSet<Manner>,
    stage: Stage,
    /// The kernel: devices, the ways to the others' pods, and whether its reverse-path filters are strict.
    links: BTreeMap<IfName, Link>,
    ways: BTreeMap<(NodeName, Family), Way>,
    strict: bool,
}

#[derive(Debug, Clone)]
struct World {
    nodes: Vec<Node>,
    store: BTreeMap<NodeName, Lease>,
    /// For each node, who has yet to act upon what it told last: hear it, and go through a whole run after that.
    unaware: BTreeMap<(usize, usize), Awareness>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awareness {
    Unheard,
    Heard,
    Deciding,
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
            vteps: PerFamily::none(),
            ways: None,
        };
        let eth0 = name("eth0");
        let links = BTreeMap::from([(eth0.clone(), link(&eth0, 1, Kind::Other(String::new())))]);
        let mut node = Self {
            n,
            conf: conf(0),
            own,
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
        let carriers = match &self.conf.backend {
            Backend::HostGw => PerFamily::none(),
            Backend::Vxlan(options) => {
                carrier::carriers(options, [Family::V4].into_iter(), &underlay).expect("a carrier")
            }
        };
        let (name, identity) = (self.own.node.clone(), vxlan(V4, V4).identity());
        let (conf, public) = (self.conf.clone(), PerFamily::none());
        let place = crate::node::Node { name, conf, underlay, carriers, identity, public };
        let request = place.request(&self.links, Some(&self.own), Path::new("/nowhere"));
        let stored = self.own.vteps;
        self.own.backend = request.backend;
        self.own.vteps = request
            .vteps
            .map(|family, wish| Vtep { vni: wish.vni, mac: wish.mac(stored.get(family).map(|vtep| vtep.mac)) });
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
            transition: &Transition { lingering: self.lingering.clone(), loosened: BTreeMap::new() },
            forward_chains: &[],
            others: &forward::Others::default(),
        })
        .expect("a network that can be carried")
    }

    fn act(&mut self, outcome: &Outcome) {
        self.links.retain(|_, link| link.index == 1);
        for (index, (name, device)) in (2..).zip(&outcome.desired.devices) {
            let device_link = link(name, index, Kind::Vxlan(device.vxlan.clone()));
            let alias = Some("netd".to_owned());
            self.links.insert(name.clone(), Link { mac: Some(device.mac), alias, ..device_link });
        }
        self.ways.clone_from(&outcome.ways);
        self.strict = outcome.one_way;
    }

    /// True where a packet that is sent here in that way is taken in.
    fn receives(&self, way: Way, from: &Node) -> bool {
        let is_open = match way {
            Way::Direct { .. } => true,
            Way::Tunnel { tunnel, mac, .. } => self.links.values().any(|link| {
                carrier::tunnel_of(link).is_some_and(|(there, _)| there == tunnel) && link.mac == Some(mac)
            }),
        };
        let back = self.ways.get(&(from.own.node.clone(), Family::V4)).map(Way::manner);
        is_open && (!self.strict || back == Some(way.manner()))
    }
}

impl World {
    /// All nodes run the first backend, and all is quiet.
    fn new() -> Self {
        let nodes: Vec<_> = NODES.into_iter().map(Node::new).collect();
        let store = nodes.iter().map(|node| (node.own.node.clone(), node.own.clone())).collect();
        let mut world = Self { nodes, store, unaware: BTreeMap::new() };
        world.calm_down();
        world
    }

    fn step(&mut self, step: Step, patient: bool) {
        match step {
            Step::Configure(at, backend) if matches!(self.nodes[at].stage, Stage::Idle) => {
                self.nodes[at].configure(backend);
            }
            Step::Hear(at, of) if at != of && matches!(self.nodes[at].stage, Stage::Idle) => {
                let record = self.store[&self.nodes[of].own.node].clone();
                self.nodes[at].heard.insert(record.node.clone(), record);
                if self.unaware.get(&(of, at)) == Some(&Awareness::Unheard) {
                    self.unaware.insert((of, at), Awareness::Heard);
                }
            }
            Step::GoOn(at) => self.go_on(at),
            Step::Run(at) => {
                self.finish(at);
                (0..NODES.len()).for_each(|of| self.step(Step::Hear(at, of), patient));
                self.go_on(at);
                self.finish(at);
            }
            Step::LetGo(at) if !patient || !self.unaware.keys().any(|(of, _)| *of == at) => {
                self.nodes[at].lingering.clear();
            }
            _ => {}
        }
    }

    fn go_on(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        match node.stage.clone() {
            Stage::Idle => {
                node.stage = Stage::Decided(Box::new(node.decide()));
                for (_, awareness) in self.unaware.iter_mut().filter(|((_, who), _)| *who == at) {
                    if *awareness == Awareness::Heard {
                        *awareness = Awareness::Deciding;
                    }
                }
            }
            Stage::Decided(outcome) => {
                node.act(&outcome);
                node.stage = Stage::Done(outcome);
            }
            Stage::Done(outcome) => {
                node.stage = Stage::Idle;
                let told = Lease { ways: Some(outcome.told.clone()), ..node.own.clone() };
                if self.store.get(&told.node) != Some(&told) || told != node.own {
                    let former = node.own.ways.iter().flat_map(Ways::receives).collect::<BTreeSet<_>>();
                    node.lingering.extend(&former - &outcome.told.receives());
                    node.own = told.clone();
                    self.store.insert(told.node.clone(), told);
                    for who in (0..NODES.len()).filter(|who| *who != at) {
                        self.unaware.insert((at, who), Awareness::Unheard);
                    }
                }
                self.unaware.retain(|(_, who), awareness| *who != at || *awareness != Awareness::Deciding);
            }
        }
    }

    fn finish(&mut self, at: usize) {
        while !matches!(self.nodes[at].stage, Stage::Idle) {
            self.go_on(at);
        }
    }

    /// Everybody hears and does everything, again and again.
    fn calm_down(&mut self) {
        for _ in 0..12 {
            (0..NODES.len()).for_each(|at| self.step(Step::Run(at), true));
            (0..NODES.len()).for_each(|at| self.step(Step::LetGo(at), true));
        }
    }

    /// Who loses packets now, as sentences.
    fn losses(&self) -> Vec<String> {
        let pairs = self.nodes.iter().flat_map(|from| self.nodes.iter().map(move |to| (from, to)));
        let lost = pairs.filter(|(from, to)| from.n != to.n).filter_map(|(from, to)| {
            match from.ways.get(&(to.own.node.clone(), Family::V4)) {
                None => Some(format!("node {} has no way to node {}", from.n, to.n)),
                Some(way) if to.receives(*way, from) => None,
                Some(way) => Some(format!(
                    "node {} sends to node {} by {}, which that does not receive (strict: {})",
                    from.n,
                    to.n,
                    way.manner(),
                    to.strict
                )),
            }
        });
        lost.collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    prop_oneof![
        3 => (node(), 0..BACKENDS.len()).prop_map(|(at, backend)| Step::Configure(at, backend)),
        6 => node().prop_map(Step::Run),
        3 => (node(), node()).prop_map(|(at, of)| Step::Hear(at, of)),
        4 => node().prop_map(Step::GoOn),
        4 => node().prop_map(Step::LetGo),
    ]
}

/// Goes through `steps` from the first backend on.
fn nothing_lost(steps: &[Step]) {
    let mut world = World::new();
    for (place, step) in steps.iter().enumerate() {
        world.step(*step, true);
        assert_eq!(world.losses(), Vec::<String>::new(), "after step {place}, {step:?}");
    }
}

#[test]
fn a_tunnel_that_peers_began_keeps_its_hardware_address_when_it_is_configured() {
    use Step::{Configure, GoOn, Run};
    // The third node takes part in the tunnel of the other port beside its own before its configuration has it.
    let others_first = [Configure(0, 4), Configure(2, 2), Configure(1, 5), Run(1), Run(0), GoOn(2), Run(2)];
    nothing_lost(&[&others_first[..], &[Configure(2, 4), Run(1), Run(2)]].concat());
}

#[test]
fn two_tunnels_that_differ_by_the_port_alone_can_begin_together() {
    use Step::{Configure, Run};
    nothing_lost(&[Configure(2, 2), Configure(1, 4), Run(2), Configure(0, 2), Run(0), Run(1), Run(0)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    // "Long enough" to linger is that every peer has heard what was told, and gone through a whole run since. A peer that needs
    // longer than that, and is given its former configuration back meanwhile, loses packets until it goes on.
    #[test]
    fn no_packet_is_lost_whatever_the_order(steps in vec(step(), 0..80), last in 0..BACKENDS.len()) {
        let mut world = World::new();
        prop_assert_eq!(world.losses(), Vec::<String>::new(), "before anything happens");
        for (place, step) in steps.iter().enumerate() {
            world.step(*step, true);
            prop_assert_eq!(world.losses(), Vec::<String>::new(), "after step {}, {:?}", place, step);
        }
        (0..NODES.len()).for_each(|at| {
            world.finish(at);
            world.step(Step::Configure(at, last), true);
        });
        world.calm_down();
        prop_assert_eq!(world.losses(), Vec::<String>::new(), "in the end");
        for node in &world.nodes {
            let manners: BTreeSet<Manner> = node.conf.backend.manners().into_iter().collect();
            let told = node.own.ways.as_ref().map(Ways::receives);
            prop_assert_eq!(told, Some(manners), "node {} is settled", node.n);
        }
    }
}
