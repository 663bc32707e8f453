//! The status of a running netd and its network, as one value: for `netd status`, for `/metrics`, for `/readyz`.
//!
//! Pure. The daemon keeps the value up to date through [`publisher::StatusPublisher`]. Clients get it as one JSON document.

pub mod client;
mod clock_steps;
mod health;
pub mod listeners;
pub mod metrics;
pub mod offline;
pub mod publisher;
pub mod run;
mod server;
pub mod socket;
pub mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use dataplane::types::{IfName, Mac, PerFamily, Prefix};
use jiff::Timestamp;
use network::backend::BackendFacts;
use network::model::Lease;
use network::overlay::Outcome;
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::problem::Problem;

/// The status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The daemon.
    #[serde(flatten)]
    pub daemon: DaemonStatus,
    /// The node and its lease, once it has one.
    pub node: Option<NodeStatus>,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, PeerStatus>,
    /// The nodes that are left out, with the reason: the first of them where there are many.
    pub left_out: BTreeMap<String, String>,
    /// The last run.
    pub last_reconcile: Option<LastReconcile>,
    /// When everything of netd's in the kernel was last read.
    pub last_full_read: Option<Timestamp>,
    /// Changes to the kernel so far, by kind.
    pub operations: BTreeMap<Cow<'static, str>, Operations>,
    /// The problems, sorted.
    pub problems: Vec<ProblemSince>,
    /// Objects that something else undoes again and again, by name.
    #[serde(default)]
    pub contested: BTreeMap<String, ContestedObject>,
    /// The store.
    pub store: StoreStatus,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// True; in the document of a netd that does not run ([`offline`]) this is false.
    pub running: bool,
    /// netd's version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// True if the kernel has the pod network as desired and pods can be wired.
    pub ready: bool,
    /// True while the backend is being changed: some routes are still the former ones.
    #[serde(default)]
    pub changing: bool,
    /// The proxy for Services, unless it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyStatus>,
}

/// The proxy for Services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// What it does.
    pub state: ProxyState,
    /// Why, if there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyState {
    /// It starts.
    Starting,
    /// Services are not known yet, or the kernel does not have them all.
    NotProgrammed,
    /// The kernel has every Service.
    Programmed,
    /// A kube-proxy runs on the node, and has the Services.
    LeftToKubeProxy,
    /// A netd-proxy runs on the node, and has the Services.
    LeftToNetdProxy,
    /// It does not run, and is tried again.
    Failed,
}

impl ProxyState {
    /// True where the proxy does what it should.
    pub fn is_ready(self) -> bool {
        matches!(self, ProxyState::Programmed | ProxyState::LeftToKubeProxy | ProxyState::LeftToNetdProxy)
    }
}

/// A problem with its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemSince {
    /// The problem.
    #[serde(flatten)]
    pub problem: Problem,
    /// When it was first seen.
    pub since: Timestamp,
}

/// An object that something else undoes again and again. netd restores it ever more rarely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContestedObject {
    /// How often it was restored.
    pub times: u64,
    /// When it is restored next, if it is undone now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// The mark of its objects in the kernel.
    pub mark: String,
    /// The backend and its options.
    pub backend: BackendFacts,
    /// Its lease.
    pub lease: LeaseStatus,
    /// The interface for packets between nodes.
    pub interface: InterfaceStatus,
    /// The MTU of pods, once known.
    pub pod_mtu: Option<u32>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// The pods' ranges.
    pub subnets: Vec<Prefix>,
    /// Where peers reach the node.
    pub public: Vec<IpAddr>,
    /// The hardware addresses of the tunnel ends.
    pub tunnel_ends: Vec<Mac>,
}

impl From<&Lease> for LeaseStatus {
    fn from(lease: &Lease) -> Self {
        Self {
            subnets: values(&lease.subnets),
            public: values(&lease.public),
            tunnel_ends: lease.macs().map(|(_, mac)| mac).collect(),
        }
    }
}

fn values<T: Copy>(per_family: &PerFamily<T>) -> Vec<T> {
    per_family.iter().map(|(_, value)| *value).collect()
}

/// The interface of the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: IfName,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl NodeStatus {
    /// The node with its lease; `outcome` is the desired state, if known.
    pub fn of(node: &Node, lease: &Lease, outcome: Option<&Outcome>) -> Self {
        let underlay = &node.underlay;
        let mtu = underlay.mtu.get();
        Self {
            name: node.name.to_string(),
            mark: node.identity.mark.clone(),
            backend: node.conf.backend.facts(),
            lease: lease.into(),
            interface: InterfaceStatus { name: underlay.ifname.clone(), mtu, addresses: values(&underlay.addresses) },
            pod_mtu: outcome.map(|outcome| outcome.pod_mtu.unwrap_or(underlay.mtu).get()),
        }
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its backend.
    pub backend: Cow<'static, str>,
    /// Its public addresses.
    pub public: Vec<IpAddr>,
    /// The route to its pods of each family.
    #[serde(rename = "ways")]
    pub routes: Vec<RouteStatus>,
}

/// The route to a range of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The range.
    pub subnet: Prefix,
    /// The kind of route.
    #[serde(rename = "way")]
    pub kind: RouteKind,
    /// The tunnel's end or the next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// Why this route.
    pub why: Cow<'static, str>,
    /// Whether the kernel has it.
    pub programmed: bool,
    /// Since when this is the route.
    pub since: Timestamp,
}

/// A kind of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Through the tunnel.
    Tunnel,
    /// Along a plain route.
    Direct,
    /// No route.
    None,
}

impl RouteKind {
    /// All of them.
    pub const ALL: [RouteKind; 3] = [RouteKind::Tunnel, RouteKind::Direct, RouteKind::None];
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A run of the reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastReconcile {
    /// Why it ran.
    pub trigger: Cow<'static, str>,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub milliseconds: u64,
    /// Changes made.
    pub changed: u64,
    /// Changes refused, and conflicts with others' objects.
    pub failed: u64,
}

/// Changes to the kernel of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operations {
    /// Made.
    pub applied: u64,
    /// Refused.
    pub failed: u64,
    /// Those made that restored what had been right before.
    pub repairs: u64,
}

/// The state of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// When the store last had an event.
    pub last_event: Option<Timestamp>,
    /// How many nodes of the store are left out.
    #[serde(default)]
    pub left_out: usize,
    /// Why the store cannot be followed, if it cannot.
    pub trouble: Option<StoreTrouble>,
}

/// Why the store cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTrouble {
    /// The reason.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
}

impl Status {
    /// The status of a netd that starts now.
    pub fn new(now: Timestamp) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let daemon = DaemonStatus { running: true, version, started: now, ..DaemonStatus::default() };
        Self { daemon, ..Self::default() }
    }

    /// True where the pod network and the proxy are as they should be.
    pub fn is_ready(&self) -> bool {
        self.daemon.ready && self.daemon.proxy.as_ref().is_none_or(|proxy| proxy.state.is_ready())
    }

    /// What netd waits for before it can start: the store cannot be reached, or lacks something.
    pub fn waits_for(&self) -> Option<&StoreTrouble> {
        self.store.trouble.as_ref().filter(|_| self.node.is_none())
    }
}

#[cfg(test)]
mod tests;
