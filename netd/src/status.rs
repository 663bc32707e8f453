//! What a running netd knows of itself and its network, as one value: for `netd status`, for `/metrics`, for `/readyz`.
//!
//! Pure. The value is kept up to date by the daemon through [`board::Board`], and leaves it as one JSON document.

pub mod board;
pub mod client;
pub mod doors;
mod health;
pub mod metrics;
pub mod missing;
pub mod moment;
pub mod remains;
mod server;
pub mod socket;
pub mod table;
mod yaml;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane::words::{Family, IfName, Mac, PerFamily, Prefix, Vni};
use serde::{Deserialize, Serialize};

use crate::config::flags::{Flags, SUBNET_FILE};
use crate::config::net_conf::Backend;
use crate::identity;
use crate::model::{Cluster, Lease, Rejected};
use crate::node::Node;
use crate::overlay::Outcome;
use crate::overlay::way::Way;
use crate::reconcile::{Report, Trigger};
use missing::Missing;
use moment::Moment;

/// Where `netd status` asks the daemon with the usual subnet file.
pub const SOCKET: &str = "/run/netd/netd.sock";

/// The socket of the daemon with these flags. Two daemons on one host have two subnet files, and so two sockets.
pub fn socket(flags: &Flags) -> PathBuf {
    match &flags.status_socket {
        Some(path) => path.clone(),
        None if flags.subnet_file == Path::new(SUBNET_FILE) => SOCKET.into(),
        None => flags.subnet_file.with_file_name(format!("{}.sock", identity::mark(&flags.subnet_file))),
    }
}

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
    /// What a person should know, with the time since when it is so.
    pub problems: BTreeMap<String, Moment>,
    /// The store.
    pub store: Store,
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

/// A backend with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendFacts {
    /// `vxlan` or `host-gw`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tunnel's network identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// The tunnel's UDP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether nodes on the same link are reached without the tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_routing: Option<bool>,
}

impl From<&Backend> for BackendFacts {
    fn from(backend: &Backend) -> Self {
        let options = if let Backend::Vxlan(options) = backend { Some(options) } else { None };
        Self {
            kind: backend.kind().to_string(),
            vni: options.map(|options| options.vni),
            port: options.map(|options| options.tunnel().port),
            direct_routing: options.map(|options| options.direct_routing),
        }
    }
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
            tunnel_ends: values(&lease.vteps.map(|_, vtep| vtep.mac)),
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
            backend: (&node.conf.backend).into(),
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
    pub backend: String,
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

/// What the daemon says of a run.
#[derive(Debug)]
pub struct Run<'a> {
    /// Why it ran.
    pub trigger: Trigger,
    /// How long it took.
    pub took: Duration,
    /// Whether all that is ours was read.
    pub full: bool,
    /// This node.
    pub node: &'a Node,
    /// The nodes.
    pub cluster: &'a Cluster,
    /// Nodes that are left out.
    pub rejected: &'a [Rejected],
    /// What was wanted.
    pub outcome: &'a Outcome,
    /// What came of it.
    pub report: &'a Report,
    /// Whether the plugin can read how things are.
    pub published: bool,
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
            problems: BTreeMap::new(),
            store: Store::default(),
        }
    }

    /// The node has its lease, and what was wanted last, if anything.
    pub fn joined(&mut self, node: &Node, lease: &Lease, outcome: Option<&Outcome>) {
        self.node = Some(Own::of(node, lease, outcome));
    }

    /// A run is over.
    pub fn reconciled(&mut self, run: &Run<'_>, now: Moment) {
        self.joined(run.node, &run.cluster.own, Some(run.outcome));
        self.changing = !run.outcome.settled;
        self.left_out = run.rejected.iter().map(|peer| (peer.node.to_string(), peer.reason.to_string())).collect();
        let report = run.report;
        self.follow(run, &Missing::of(report), now);
        for (kind, count) in &report.counts {
            let sum = self.operations.entry(Cow::Borrowed(kind)).or_default();
            sum.applied += count.applied;
            sum.failed += count.failed;
            sum.repairs += if run.trigger.repairs() { count.applied } else { 0 };
        }
        let failed = report.failed.len() + report.conflicts.len();
        self.ready = run.published && failed == 0;
        self.last_reconcile = Some(Reconcile {
            trigger: run.trigger.name().into(),
            at: now,
            milliseconds: milliseconds(run.took),
            changed: u64::try_from(report.applied).unwrap_or(u64::MAX),
            failed: u64::try_from(failed).unwrap_or(u64::MAX),
        });
        if run.full {
            self.last_full_read = Some(now);
        }
        self.complain(report.complaints.iter().map(String::as_str), now);
    }

    /// A run could not even begin.
    pub fn gave_up(&mut self, trigger: Trigger, took: Duration, why: &str, now: Moment) {
        self.ready = false;
        let (trigger, milliseconds) = (trigger.name().into(), milliseconds(took));
        self.last_reconcile = Some(Reconcile { trigger, at: now, milliseconds, changed: 0, failed: 1 });
        self.complain([why].into_iter(), now);
    }

    /// These are the problems now; those that were known stay as old as they are.
    fn complain<'t>(&mut self, problems: impl Iterator<Item = &'t str>, now: Moment) {
        let mut known = std::mem::take(&mut self.problems);
        self.problems =
            problems.map(|what| known.remove_entry(what).unwrap_or_else(|| (what.to_owned(), now))).collect();
    }

    /// Takes over the peers and the ways to them. A way that has not changed keeps its age.
    fn follow(&mut self, run: &Run<'_>, missing: &Missing, now: Moment) {
        let peers = &run.cluster.peers;
        if self.peers.len() != peers.len() || !self.peers.keys().zip(peers.keys()).all(|(a, b)| a == b.as_str()) {
            let mut known = std::mem::take(&mut self.peers);
            let name = |(node, lease): (_, &Lease)| {
                let node: &crate::model::NodeName = node;
                known.remove_entry(node.as_str()).unwrap_or_else(|| (node.to_string(), Peer::new(lease)))
            };
            self.peers = peers.iter().map(name).collect();
        }
        // Both are sorted by the same names.
        for (peer, lease) in self.peers.values_mut().zip(peers.values()) {
            peer.follow(run, lease, missing, now);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Peer {
    fn new(lease: &Lease) -> Self {
        Self { backend: lease.backend.to_string(), public: values(&lease.public), ways: Vec::new() }
    }

    fn follow(&mut self, run: &Run<'_>, lease: &Lease, missing: &Missing, now: Moment) {
        if self.backend != lease.backend.as_str() {
            self.backend = lease.backend.to_string();
        }
        if !self.public.iter().eq(lease.public.iter().map(|(_, address)| address)) {
            self.public = values(&lease.public);
        }
        let mut place = 0;
        for (family, subnet) in lease.subnets.iter() {
            let new = WayTo::find(run, lease, (family, *subnet), missing, now);
            match self.ways.get_mut(place) {
                Some(known) if known.is_as(&new) => {}
                Some(known) => *known = new,
                None => self.ways.push(new),
            }
            place += 1;
        }
        self.ways.truncate(place);
    }
}

impl WayTo {
    fn find(run: &Run<'_>, lease: &Lease, (family, subnet): (Family, Prefix), missing: &Missing, now: Moment) -> Self {
        let key = (lease.node.clone(), family);
        let (way, to, why, programmed) = match (run.outcome.ways.get(&key), run.outcome.unreachable.get(&key)) {
            (Some(way), _) => {
                let (sort, to) = sort(*way);
                let programmed = !missing.covers(&run.outcome.desired, *way, subnet);
                (sort, Some(to), why(&run.node.conf.backend, *way), programmed)
            }
            (None, Some(reason)) => (Sort::None, None, reason.to_string().into(), false),
            (None, None) => (Sort::None, None, "nothing is known of it yet".into(), false),
        };
        Self { subnet, way, to, why, programmed, since: now }
    }

    fn is_as(&self, new: &Self) -> bool {
        (self.subnet, self.way, self.to, self.programmed) == (new.subnet, new.way, new.to, new.programmed)
            && self.why == new.why
    }
}

fn sort(way: Way) -> (Sort, IpAddr) {
    match way {
        Way::Tunnel { endpoint, .. } => (Sort::Tunnel, endpoint),
        Way::Direct { gateway } => (Sort::Direct, gateway),
    }
}

/// Why a way that there is, is this one.
fn why(backend: &Backend, way: Way) -> Cow<'static, str> {
    if !backend.manners().contains(&way.manner()) {
        return format!("{}: it does not receive by this node's backend yet", way.manner()).into();
    }
    let reason = match (backend, way) {
        (Backend::Vxlan(options), Way::Tunnel { .. }) if options.direct_routing => "not on this node's link",
        (Backend::Vxlan(_), Way::Direct { .. }) => "on this node's link (DirectRouting)",
        (Backend::Vxlan(_), Way::Tunnel { .. }) => "backend vxlan",
        (Backend::HostGw, _) => "backend host-gw",
    };
    reason.into()
}

#[cfg(test)]
mod tests;
