//! The elements that one service port is. Pure.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use dataplane::nft::{Data, Interval, Key, Value};
use dataplane::types::Prefix;
use fnv::FnvHasher;

use super::name::{Destination, Lookup, Pool, SetName};
use super::settings::Settings;
use crate::model::{Policy, PortName, ServicePort};
use crate::topology::Resolved;

/// The longest comment of an element.
const COMMENT_BYTES: usize = 127;

/// An element's place: its set and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The set.
    pub set: SetName,
    /// The key.
    pub key: Key,
}

/// What is known of an element: `None` where there is none, else what it holds, which is something in a map alone.
pub type Presence = Option<Option<Data>>;

/// The elements of a service port, and what a map's element holds. Several service ports may have the same element, which is then the same in
/// all of them: a cluster IP of two ports, an endpoint of two Services.
pub(super) type Elements = BTreeMap<Element, Option<Data>>;

/// A destination of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// The address; `None` for a node port.
    pub address: Option<IpAddr>,
    /// The protocol's number.
    pub protocol: u8,
    /// The port, or the node port.
    pub port: u16,
}

/// The destinations of a service port. The first is the cluster IP.
pub(super) fn fronts(port: &ServicePort) -> impl Iterator<Item = Front> {
    let protocol = port.name.protocol.number();
    let front = move |address| Front { address: Some(address), protocol, port: port.port };
    port.addresses().map(front).chain(port.node_port.map(|port| Front { address: None, protocol, port }))
}

impl Element {
    /// The destination that the element is about, where it is about one.
    pub(super) fn front(&self) -> Option<Front> {
        let mut values = self.key.0.iter().map(|interval| &interval.first);
        let mut next = values.next()?;
        let address = if let Value::Address(address) = next {
            next = values.next()?;
            Some(*address)
        } else {
            None
        };
        match (next, values.next()?) {
            (Value::Protocol(protocol), Value::Service(port)) => {
                Some(Front { address, protocol: *protocol, port: *port })
            }
            _ => None,
        }
    }
}

/// The elements of a service port whose endpoints have the order of `cluster` and `local`.
pub(super) fn of(port: &ServicePort, pools: &Pools, settings: &Settings) -> Elements {
    let mut elements = Builder { port, settings, elements: Elements::new() };
    elements.put(SetName::ClusterIps, [Value::Address(port.cluster_ip)], None);
    let mut fronts = fronts(port);
    if let Some(cluster_ip) = fronts.next() {
        elements.internal(cluster_ip, pools);
    }
    for front in fronts {
        elements.external(front, pools);
    }
    elements.restrict();
    elements.gate();
    for endpoint in &pools.local {
        let address = || Value::Address(endpoint.ip());
        elements.put(SetName::Hairpin, [address(), address()], None);
    }
    elements.elements
}

/// The endpoints of a service port in the order by which they are drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pools {
    pub(super) cluster: Box<[SocketAddr]>,
    pub(super) local: Box<[SocketAddr]>,
    /// There is an endpoint somewhere.
    pub(super) has_any: bool,
}

impl Pools {
    /// Orders the endpoints so that as few as possible of the former ones get another number.
    pub(super) fn arrange(former: &Self, resolved: &Resolved) -> Self {
        Self {
            cluster: super::arrange(&former.cluster, &resolved.cluster).into(),
            local: super::arrange(&former.local, &resolved.local).into(),
            has_any: resolved.has_any,
        }
    }

    pub(super) fn of(&self, policy: Policy) -> &[SocketAddr] {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }
}

/// Which endpoints are drawn from, for a destination of a service port.
pub(super) fn policy(port: &ServicePort, front: Front, pool: Pool) -> Policy {
    match pool {
        _ if front.address == Some(port.cluster_ip) => port.internal_policy,
        Pool::Cluster => Policy::Cluster,
        Pool::Local => Policy::Local,
    }
}

/// The number by which the clients of a service port with affinity are known: one for all of its destinations that have the same endpoints,
/// and the same one in the next process. Where the numbers of two service ports are the same by chance, a client of both goes to
/// endpoints of the same place in both.
pub fn clients_of(port: &ServicePort, policy: Policy) -> u32 {
    let name = format!("{}/{}/{policy:?}", port.name, port.name.protocol);
    let mut hasher = FnvHasher::default();
    hasher.write(name.as_bytes());
    let [_, _, _, _, number @ ..] = hasher.finish().to_be_bytes();
    // `nft` has words for a priority of zero and for one of ones alone.
    u32::from_be_bytes(number) & 0x7fff_ffff | 0x1_0001
}

struct Builder<'b> {
    port: &'b ServicePort,
    settings: &'b Settings,
    elements: Elements,
}

impl Builder<'_> {
    fn put(&mut self, set: SetName, key: impl Into<Vec<Value>>, data: Option<Data>) {
        let key = Key(key.into().into_iter().map(Interval::from).collect());
        self.elements.insert(Element { set, key }, data);
    }

    /// The cluster IP.
    fn internal(&mut self, front: Front, pools: &Pools) {
        self.draw(front, Pool::Cluster, pools);
        if pools.of(self.port.internal_policy).is_empty() {
            self.refuse(front, pools);
        }
    }

    /// An external address or the node port.
    fn external(&mut self, front: Front, pools: &Pools) {
        // Pods and the node itself are served as if the policy were Cluster.
        self.draw(front, Pool::Cluster, pools);
        if self.port.external_policy == Policy::Local {
            self.put(SetName::LocalOnly(front.destination()), front.key(), None);
            self.draw(front, Pool::Local, pools);
        } else {
            self.put(SetName::Masquerade(front.destination()), front.key(), None);
        }
        if pools.of(self.port.external_policy).is_empty() {
            self.refuse(front, pools);
        }
    }

    /// Packets that nothing has sent to an endpoint are rejected, or dropped where other nodes have endpoints.
    fn refuse(&mut self, front: Front, pools: &Pools) {
        let set = if pools.has_any { SetName::Drop } else { SetName::Reject };
        self.put(set(front.destination()), front.key(), None);
    }

    /// The endpoints of which one is drawn.
    fn draw(&mut self, front: Front, pool: Pool, pools: &Pools) {
        let policy = policy(self.port, front, pool);
        let endpoints = pools.of(policy);
        let lookup = Lookup { destination: front.destination(), pool };
        let target = |endpoint: &SocketAddr| {
            Some(Data::Values(vec![Value::Address(endpoint.ip()), Value::Service(endpoint.port())]))
        };
        match (endpoints, self.port.affinity) {
            ([], _) => {}
            (_, Some(timeout)) => {
                let clients = Data::Values(vec![Value::Priority(clients_of(self.port, policy))]);
                self.put(SetName::Affinity(lookup, count(endpoints), timeout), front.key(), Some(clients));
                for (slot, endpoint) in (0..).zip(endpoints) {
                    self.put(SetName::Slot(lookup, slot), front.key(), target(endpoint));
                }
            }
            ([only], None) => self.put(SetName::Single(lookup), front.key(), target(only)),
            (_, None) => {
                self.put(SetName::Count(lookup, count(endpoints)), front.key(), None);
                for (number, endpoint) in (0..).zip(endpoints) {
                    let key = [front.key(), vec![Value::Integer(number)]].concat();
                    self.put(SetName::Endpoints(lookup), key, target(endpoint));
                }
            }
        }
    }

    /// What lets packets to the destinations pass to all other sets.
    fn gate(&mut self) {
        for front in fronts(self.port) {
            let key = front.address.map_or_else(|| front.key(), |address| vec![Value::Address(address)]);
            self.put(SetName::Gate(front.destination()), key, None);
        }
    }

    /// Who may use the load balancer's addresses.
    fn restrict(&mut self) {
        let Some(ranges) = &self.port.source_ranges else { return };
        let node = self.settings.node_address;
        let is_node_allowed = node.is_some_and(|node| ranges.iter().any(|range| range.contains(node)));
        for address in &self.port.load_balancer_ips {
            let front =
                Front { address: Some(*address), protocol: self.port.name.protocol.number(), port: self.port.port };
            let key = front.key();
            self.put(SetName::Restricted, key.clone(), None);
            // A packet of the node to a load balancer's address that the node itself has comes from that address.
            let own = self.port.load_balancer_ips.iter().filter(|_| is_node_allowed).map(|own| Prefix::host(*own));
            for range in ranges.iter().copied().chain(own) {
                let mut key: Vec<Interval> = key.iter().cloned().map(Interval::from).collect();
                key.push(range.into());
                self.elements.insert(Element { set: SetName::Allowed, key: Key(key) }, None);
            }
        }
    }
}

/// An element that several service ports may have, held small: there are as many as Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shared {
    ServiceIp(IpAddr),
    ClusterIp(IpAddr),
    Hairpin(IpAddr),
}

/// True for the elements of sets in which several service ports may have the same one.
pub(super) fn is_shared(set: SetName) -> bool {
    matches!(set, SetName::Gate(Destination::Address) | SetName::ClusterIps | SetName::Hairpin)
}

impl Shared {
    /// `None` for an element that one service port alone has.
    pub(super) fn of(element: &Element) -> Option<Self> {
        let shared = match element.set {
            SetName::Gate(Destination::Address) => Self::ServiceIp,
            SetName::ClusterIps => Self::ClusterIp,
            SetName::Hairpin => Self::Hairpin,
            _ => return None,
        };
        match element.key.0.first()?.first {
            Value::Address(address) => Some(shared(address)),
            _ => None,
        }
    }
}

/// What `nft list` shows of the service port that an element is of.
pub fn comment(name: &PortName) -> String {
    let mut comment = name.to_string();
    // Names have letters of one byte.
    comment.truncate(COMMENT_BYTES);
    comment
}

impl Front {
    fn destination(self) -> Destination {
        if self.address.is_some() { Destination::Address } else { Destination::NodePort }
    }

    fn key(self) -> Vec<Value> {
        let address = self.address.map(Value::Address).into_iter();
        address.chain([Value::Protocol(self.protocol), Value::Service(self.port)]).collect()
    }
}

/// How many endpoints there are. No Service has more than the number has room for: a slice has at most 1,000, and an object a name.
fn count(endpoints: &[SocketAddr]) -> u32 {
    u32::try_from(endpoints.len()).unwrap_or(u32::MAX)
}
