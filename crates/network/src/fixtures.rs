//! The network that the tests of the overlay and of plans are about, node 1 seen from inside.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | pod network | 10.244.0.0/16 | `fd00:10::/48` |
//! | pods of node n | 10.244.n.0/24 | `fd00:10:0:n::/64` |
//! | node n on node 1's segment (eth0) | 192.168.1.n | `fd00:1::n` |
//! | node n behind the router | 192.168.2.n | `fd00:2::n` |
//! | the router | 192.168.1.254 | `fd00:1::fe` |
//! | node n's public address behind a NAT | 203.0.113.n | |
//!
//! The VXLAN device of node n has the hardware address `0a:00:00:00:00:n`.

#![expect(
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "for tests: what does not hold in them panics, and they build networks in one line"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::netlink::KernelError;
use dataplane::nft::{BaseChainFacts, TableId};
use dataplane::op::DeviceRoute;
use dataplane::route::RouteKind;
use dataplane::types::{Family, IfName, Mac, Mtu, PerFamily, Prefix, RouteProtocol, Vni};

use crate::backend::vxlan::Vtep;
use crate::backend::{BackendData, BackendType, TunnelDevice, TunnelDeviceError};
use crate::interface::Underlay;
use crate::model::{Cluster, Lease, NodeName};
use crate::net_conf::NetConf;
use crate::observe;
use crate::overlay::bridge::Bridge;
use crate::overlay::masquerade::Ports;
use crate::overlay::transition::Transition;
use crate::overlay::{Identity, Input, Outcome, build};
use crate::plan::Plan;

/// IPv4 alone.
pub const V4: PerFamily<()> = PerFamily { v4: Some(()), v6: None };
/// IPv6 alone.
pub const V6: PerFamily<()> = PerFamily { v4: None, v6: Some(()) };
/// Both.
pub const DUAL: PerFamily<()> = PerFamily { v4: Some(()), v6: Some(()) };

/// An interface's name.
pub fn name(text: &str) -> IfName {
    text.parse().expect("an interface name")
}

/// A range.
pub fn prefix(text: &str) -> Prefix {
    text.parse().expect("an address range")
}

/// An address.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The hardware address of node n's device.
pub fn mac(n: u8) -> Mac {
    Mac([0x0a, 0, 0, 0, 0, n])
}

/// The name of node n.
pub fn node_name(n: u8) -> NodeName {
    format!("node-{n}").parse().expect("a node name")
}

fn pods_of(n: u8, family: Family) -> Prefix {
    prefix(&match family {
        Family::V4 => format!("10.244.{n}.0/24"),
        Family::V6 => format!("fd00:10:0:{n:x}::/64"),
    })
}

fn on_segment(segment: u8, n: u8, family: Family) -> IpAddr {
    address(&match family {
        Family::V4 => format!("192.168.{segment}.{n}"),
        Family::V6 => format!("fd00:{segment:x}::{n:x}"),
    })
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number, from 2.
    pub n: u8,
    /// The last octet of its hardware address.
    pub mac: u8,
    /// Its segment: 1 is ours, 2 behind the router.
    pub segment: u8,
    /// The last octet of its addresses.
    pub host: u8,
    /// The families that it has addresses of.
    pub public: PerFamily<()>,
    /// Its backend, where it is not ours.
    pub backend: Option<BackendType>,
    /// Its VNI, where it is not ours.
    pub vni: Option<i64>,
    /// False where it has published no tunnel end.
    pub vtep: bool,
}

/// Node `n` on the segment that node 1 is on.
pub fn near(n: u8) -> Peer {
    Peer { n, mac: n, segment: 1, host: n, public: DUAL, backend: None, vni: None, vtep: true }
}

/// Node `n` behind the router.
pub fn far(n: u8) -> Peer {
    Peer { segment: 2, ..near(n) }
}

/// Node 1's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The families of pods.
    pub pods: PerFamily<()>,
    /// The families of the underlay.
    pub underlay: PerFamily<()>,
    /// `Backend` of net-conf.json, without its braces.
    pub backend: String,
    /// The VNI in it.
    pub vni: i64,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// The MTU of eth0.
    pub mtu: u16,
    /// Our address is 203.0.113.1 for peers.
    pub nat: bool,
    /// Whether packets to elsewhere are masqueraded, and how ports are chosen.
    pub masquerade: Option<Ports>,
    /// Whether pods' packets are let through.
    pub forward_rules: bool,
    /// The pods' bridge.
    pub bridge: Option<Bridge>,
}

/// A network of VXLAN and two peers, one on each segment, without rules.
pub fn vxlan(pods: PerFamily<()>, underlay: PerFamily<()>) -> Network {
    Network {
        pods,
        underlay,
        backend: r#""Type": "vxlan""#.to_owned(),
        vni: 1,
        peers: vec![near(2), far(3)],
        mtu: 1500,
        nat: false,
        masquerade: None,
        forward_rules: false,
        bridge: None,
    }
}

/// The same with plain routes.
pub fn host_gw(pods: PerFamily<()>, underlay: PerFamily<()>) -> Network {
    Network { backend: r#""Type": "host-gw""#.to_owned(), ..vxlan(pods, underlay) }
}

impl Network {
    /// The same with more fields in `Backend`.
    pub fn with(mut self, fields: &str) -> Self {
        write!(self.backend, ", {fields}").expect("a string takes all");
        self
    }

    /// The same with these peers.
    pub fn peers(self, peers: impl Into<Vec<Peer>>) -> Self {
        Self { peers: peers.into(), ..self }
    }

    /// The same with another VNI.
    pub fn vni(self, vni: i64) -> Self {
        Self { vni, ..self }.with(&format!(r#""VNI": {vni}"#))
    }

    /// The network configuration.
    pub fn conf(&self) -> NetConf {
        let (v4, v6) = (self.pods.v4.is_some(), self.pods.v6.is_some());
        let backend = &self.backend;
        let v4 = if v4 { r#""Network": "10.244.0.0/16","# } else { r#""EnableIPv4": false,"# };
        let v6 = if v6 { r#""EnableIPv6": true, "IPv6Network": "fd00:10::/48","# } else { "" };
        NetConf::parse(&format!("{{{v4} {v6} \"Backend\": {{{backend}}}}}")).expect("a right net-conf.json").0
    }

    /// How node 1's objects are marked.
    pub fn identity(&self) -> Identity {
        Identity { mark: "netd".to_owned(), networks: self.conf().prefixes(), former: PerFamily::none() }
    }

    /// What a node says of itself.
    pub fn lease(&self, peer: &Peer) -> Lease {
        let ours = self.conf().backend.kind();
        let vni = Vni::try_from(peer.vni.unwrap_or(self.vni)).expect("a VNI");
        let vtep = BackendData::Vxlan(Vtep { vni, mac: mac(peer.mac) });
        let has_vtep = peer.vtep && ours == BackendType::Vxlan;
        Lease {
            node: node_name(peer.n),
            subnets: self.pods.map(|family, ()| pods_of(peer.n, family)),
            public: peer.public.map(|family, ()| on_segment(peer.segment, peer.host, family)),
            backend: peer.backend.clone().unwrap_or(ours),
            data: if has_vtep { self.pods.map(|_, ()| vtep.clone()) } else { PerFamily::none() },
            encapsulations: None,
        }
    }

    /// What all say.
    pub fn cluster(&self) -> Cluster {
        let peers = self.peers.iter().map(|peer| (node_name(peer.n), self.lease(peer).into())).collect();
        Cluster { own: self.lease(&Peer { public: self.underlay, ..near(1) }), peers }
    }

    /// The interface between nodes, with this index.
    pub fn underlay(&self, index: u32) -> Underlay {
        let addresses = self.underlay.map(|family, ()| on_segment(1, 1, family));
        let mut public = addresses;
        if self.nat {
            public.v4 = Some(address("203.0.113.1"));
        }
        let mtu = Mtu::try_from(i64::from(self.mtu)).expect("an MTU");
        Underlay { ifname: name("eth0"), index, mtu, addresses, public }
    }

    /// The devices that node 1 carries it over.
    pub fn tunnel_devices(&self) -> PerFamily<TunnelDevice> {
        let conf = self.conf();
        let devices = conf.backend.tunnel_devices(conf.networks.families(), &self.underlay(1));
        devices.expect("a network that can be carried")
    }

    /// The routes that eth0's addresses bring, and the default ones.
    pub fn underlay_routes(&self) -> Vec<DeviceRoute> {
        let both = self.underlay.families().map(|family| {
            let metric = dataplane::route::Route::default_metric(family);
            let route = |destination, gateway, protocol| {
                let protocol = RouteProtocol(protocol);
                DeviceRoute {
                    destination,
                    gateway,
                    device: name("eth0"),
                    onlink: false,
                    protocol,
                    metric,
                    kind: RouteKind::Unicast,
                }
            };
            let len = if family == Family::V4 { 24 } else { 64 };
            let segment = Prefix::new(on_segment(1, 0, family), len).expect("a range");
            [route(segment, None, 2), route(family.default_route(), Some(on_segment(1, 254, family)), 3)]
        });
        both.flatten().collect()
    }

    /// A kernel with eth0 and nothing of ours.
    pub fn fake(&self) -> Fake {
        let mut fake = Fake::default();
        let index = fake.add_link(&name("eth0"), self.mtu.into());
        self.set_underlay(&mut fake);
        assert_eq!(index, 1, "eth0 is the first link");
        fake
    }

    /// Gives eth0 this network's routes in place of those that it has from another.
    pub fn set_underlay(&self, fake: &mut Fake) {
        fake.routes.retain(|route| route.index != 1 || !matches!(route.protocol.0, 2 | 3));
        fake.routes.extend(self.underlay_routes().iter().map(|route| route.with_index(1)));
    }

    /// What should be, as it follows from a kernel.
    pub fn outcome(&self, kernel: &mut impl Kernel) -> Result<Outcome, TunnelDeviceError> {
        let host = observe::host(kernel, &self.identity()).expect("a readable kernel");
        self.outcome_on(&host)
    }

    /// What should be on such a host.
    pub fn outcome_on(&self, host: &observe::Host) -> Result<Outcome, TunnelDeviceError> {
        let (conf, cluster, identity) = (self.conf(), self.cluster(), self.identity());
        let underlay = self.underlay(host.links[&name("eth0")].index);
        let input = Input {
            conf: &conf,
            cluster: &cluster,
            underlay: &underlay,
            identity: &identity,
            masquerade: self.masquerade,
            forward_rules: self.forward_rules,
            routes: &host.routes,
            links: &host.links,
            reverse_path: &BTreeMap::new(),
            transition: &Transition::default(),
            forward_chains: &host.base_chains,
            others: &host.others,
            bridge_name: &name("cni0"),
            bridge: self.bridge.as_ref(),
        };
        Ok(build(&input)?.0)
    }

    /// What a reconcile would do now.
    pub fn plan(&self, kernel: &mut impl Kernel) -> Plan {
        let host = observe::host(kernel, &self.identity()).expect("a readable kernel");
        let desired = self.outcome_on(&host).expect("a network that can be carried").desired;
        let identity = self.identity();
        let observed = observe::observed(kernel, host, &identity, &desired).expect("a readable kernel");
        Plan::diff(&observed, &desired, &identity)
    }

    /// One reconcile: the plan, and the ops that failed.
    pub fn reconcile(&self, kernel: &mut impl Kernel) -> (Plan, Vec<(String, KernelError)>) {
        let plan = self.plan(kernel);
        let outcomes = kernel.apply(&plan.ops);
        let failed = plan.ops.iter().zip(outcomes).filter_map(|(op, outcome)| Some((op.to_string(), outcome.err()?)));
        let failed = failed.collect();
        (plan, failed)
    }

    /// A reconcile that must do all it planned, and after which there must be nothing to do.
    pub fn settle(&self, kernel: &mut impl Kernel) -> Plan {
        let (plan, failed) = self.reconcile(kernel);
        assert!(failed.is_empty(), "every op is carried out, but: {failed:?}\nof the plan\n{plan}");
        assert_eq!(plan.conflicts, [], "nothing stands in the way");
        let again = self.plan(kernel);
        assert!(again.is_empty(), "a second run has nothing to do, but:\n{again}after\n{plan}");
        plan
    }
}

/// Chains that the kernel calls for forwarded packets, by `FAMILY TABLE CHAIN`, with the policy drop.
pub fn drop_chain(table: TableId, chain: &str) -> BaseChainFacts {
    use dataplane::nft::{Base, ChainType, Hook, Policy};
    let base =
        Base { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop, devices: Vec::new() };
    BaseChainFacts { table, chain: chain.to_owned(), base }
}

/// What a kernel holds by names, without indexes and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, Vec<String>>);

/// Everything in a kernel but the sysctls: those are set, and never set back.
pub fn snapshot(fake: &Fake) -> Snapshot {
    let names: BTreeMap<u32, String> = fake.links.iter().map(|link| (link.index, link.name.to_string())).collect();
    let sorted = |lines: Vec<String>| {
        let mut lines = lines;
        lines.sort();
        lines
    };
    let links = fake.links.iter().map(|link| {
        let lower = link.lower.and_then(|index| names.get(&index));
        format!("{} {:?} {} {:?} {:?} {lower:?} {:?}", link.name, link.mac, link.mtu, link.up, link.alias, link.kind)
    });
    let addresses = fake.addresses.iter().map(|a| format!("{} {}/{}", names[&a.index], a.address, a.prefix_len));
    let routes = fake.routes.iter().map(|route| DeviceRoute::of(route, name(&names[&route.index])).to_string());
    let neighbours = fake.neighbours.iter().map(|n| format!("{} {} {:?}", names[&n.index], n.address, n.mac));
    let fdb = fake.fdb.iter().map(|f| format!("{} {} {}", names[&f.index], f.mac, f.destination));
    let tables = fake.tables.values().map(ToString::to_string);
    Snapshot(BTreeMap::from([
        ("1 links", sorted(links.collect())),
        ("2 addresses", sorted(addresses.collect())),
        ("3 routes", sorted(routes.collect())),
        ("4 neighbours", sorted(neighbours.collect())),
        ("5 fdb", sorted(fdb.collect())),
        ("6 tables", sorted(tables.collect())),
    ]))
}

/// What a command prints.
pub fn sh(line: &str) -> String {
    let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    assert!(done.status.success(), "`{line}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
