//! What a running netd knows of itself and its network, as one value: for `netd status`, for `/metrics`, for `/readyz`.
//!
//! Pure. The value is kept up to date by the daemon through [`board::Board`], and leaves it as one JSON document.

pub mod board;
pub mod client;
mod clocks;
mod contested;
pub mod doors;
mod health;
pub mod metrics;
pub mod missing;
pub mod moment;
pub mod remains;
pub mod run;
mod server;
pub mod socket;
pub mod table;
pub mod yaml;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::types::{IfName, Mac, PerFamily, Prefix};
use network::backend::BackendFacts;
use network::model::Lease;
use network::overlay::Outcome;
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::problem::Problem;
use moment::Moment;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// True: in the document of a netd that does not run, it is false.
    pub running: bool,
    /// netd's version.
    pub version: String,
    /// Since when it runs.
    pub started: Moment,
    /// Everything that should be in the kernel is there, and pods can be wired.
    pub ready: bool,
    /// A change of the backend is under way: some ways are still the former ones.
    #[serde(default)]
    pub changing: bool,
    /// The node and its lease, once it has one.
    pub node: Option<Own>,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, Peer>,
    /// Nodes of the store that are left out, and why.
    pub left_out: BTreeMap<String, String>,
    /// The last run.
    pub last_reconcile: Option<Reconcile>,
    /// When all that is ours in the kernel was last read.
    pub last_full_read: Option<Moment>,
    /// Changes to the kernel so far, by kind.
    pub operations: BTreeMap<Cow<'static, str>, Operations>,
    /// What is wrong, sorted.
    pub problems: Vec<ProblemSince>,
    /// What something else undoes again and again, by what it is.
    #[serde(default)]
    pub contested: BTreeMap<String, Contested>,
    /// The store.
    pub store: Store,
}

/// A problem with its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemSince {
    /// The problem.
    #[serde(flatten)]
    pub problem: Problem,
    /// When it was first seen.
    pub since: Moment,
}

/// An object that something else undoes, so that it is put back ever more rarely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contested {
    /// How often it was put back.
    pub times: u64,
    /// When it is put back again, where it is undone now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Moment>,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Own {
    /// Its name.
    pub name: String,
    /// How its objects are marked.
    pub mark: String,
    /// The backend and its options.
    pub backend: BackendFacts,
    /// What it holds and tells its peers.
    pub lease: LeaseFacts,
    /// What packets between nodes leave by.
    pub interface: Interface,
    /// The MTU that pods get, once that is known.
    pub pod_mtu: Option<u32>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseFacts {
    /// The pods' ranges.
    pub subnets: Vec<Prefix>,
    /// Where peers send packets for the node.
    pub public: Vec<IpAddr>,
    /// The hardware addresses of the tunnel ends.
    pub tunnel_ends: Vec<Mac>,
}

impl From<&Lease> for LeaseFacts {
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
pub struct Interface {
    /// Its name.
    pub name: IfName,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Own {
    fn of(node: &Node, lease: &Lease, outcome: Option<&Outcome>) -> Self {
        let underlay = &node.underlay;
        let mtu = underlay.mtu.get();
        Self {
            name: node.name.to_string(),
            mark: node.identity.mark.clone(),
            backend: node.conf.backend.facts(),
            lease: lease.into(),
            interface: Interface { name: underlay.ifname.clone(), mtu, addresses: values(&underlay.addresses) },
            pod_mtu: outcome.map(|outcome| outcome.pod_mtu.unwrap_or(underlay.mtu).get()),
        }
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its backend.
    pub backend: Cow<'static, str>,
    /// Where it is reached.
    pub public: Vec<IpAddr>,
    /// The way to its pods of each family.
    pub ways: Vec<WayTo>,
}

/// The way to a range of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WayTo {
    /// The range.
    pub subnet: Prefix,
    /// The sort of way.
    pub way: Sort,
    /// The tunnel's end or the next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// Why this way.
    pub why: Cow<'static, str>,
    /// Whether it is in the kernel.
    pub programmed: bool,
    /// Since when it is so.
    pub since: Moment,
}

/// A sort of way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Through the tunnel.
    Tunnel,
    /// Along a plain route.
    Direct,
    /// There is none.
    None,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 3] = [Sort::Tunnel, Sort::Direct, Sort::None];

    /// Its name in documents and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Tunnel => "tunnel",
            Sort::Direct => "direct",
            Sort::None => "none",
        }
    }
}

/// A run of the reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconcile {
    /// Why it ran.
    pub trigger: Cow<'static, str>,
    /// When it ended.
    pub at: Moment,
    /// How long it took.
    pub milliseconds: u64,
    /// Changes made.
    pub changed: u64,
    /// Changes refused, and places taken by others.
    pub failed: u64,
}

/// Changes to the kernel of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operations {
    /// Made.
    pub applied: u64,
    /// Refused.
    pub failed: u64,
    /// Those made that put right what had been right before.
    pub repairs: u64,
}

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// When it last told something.
    pub last_event: Option<Moment>,
    /// What keeps it from being followed, and since when.
    pub trouble: Option<Trouble>,
}

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// Since when.
    pub since: Moment,
}

impl Status {
    /// Of a netd that starts now.
    pub fn new(now: Moment) -> Self {
        Self {
            running: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            ready: false,
            changing: false,
            node: None,
            peers: BTreeMap::new(),
            left_out: BTreeMap::new(),
            last_reconcile: None,
            last_full_read: None,
            operations: BTreeMap::new(),
            problems: Vec::new(),
            contested: BTreeMap::new(),
            store: Store::default(),
        }
    }

    /// What netd waits for before it can begin: the store is away, or lacks something.
    pub fn waits_for(&self) -> Option<&Trouble> {
        self.store.trouble.as_ref().filter(|_| self.node.is_none())
    }

    /// The node has its lease, and what was wanted last, if anything.
    pub fn joined(&mut self, node: &Node, lease: &Lease, outcome: Option<&Outcome>) {
        self.node = Some(Own::of(node, lease, outcome));
    }
}

#[cfg(test)]
mod tests;
