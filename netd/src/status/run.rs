//! How a run changes the status.
//!
//! Pure: the time is an argument. Values that have not changed keep their age.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use ::reconcile::Contested;
use dataplane::types::{Family, Prefix};
use jiff::Timestamp;
use network::backend::PeerRoute;
use network::key::Key;
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::overlay::{Desired, Outcome};
use network::plan::Conflict;

use super::{
    ContestedObject, LastReconcile, NodeStatus, PeerStatus, ProblemSince, ProxyStatus, RouteKind, RouteStatus, Status,
    values,
};
use crate::node::Node;
use crate::problem::{Kind, Problem, Problems};
use crate::reconcile::problems::MOST;
use crate::reconcile::{Deferred, Report, Trigger};

/// A run that has ended.
#[derive(Debug)]
pub struct Run<'a> {
    /// Why it ran.
    pub trigger: Trigger,
    /// How long it took.
    pub took: Duration,
    /// What it compared.
    pub scope: Scope<'a>,
    /// This node.
    pub node: &'a Node,
    /// The nodes.
    pub cluster: &'a Cluster,
    /// The desired state.
    pub outcome: &'a Outcome,
    /// The result.
    pub report: &'a Report,
    /// What is left for later, since something else undoes it again and again.
    pub deferred: &'a Deferred,
}

/// What a run compared, with what only such a run finds out.
#[derive(Debug)]
pub enum Scope<'a> {
    /// Everything.
    Full {
        /// Nodes that are left out.
        rejected: &'a [Rejected],
        /// The problems.
        problems: &'a Problems,
        /// Whether the plugin's files are up to date.
        published: bool,
    },
    /// Only the peers that came, went or changed.
    Peers(&'a [NodeName]),
}

impl Status {
    /// A run has ended.
    pub fn reconciled(&mut self, run: &Run<'_>, now: Timestamp) {
        let report = run.report;
        let published = match run.scope {
            Scope::Peers(nodes) => {
                self.follow(run, nodes, now);
                self.daemon.ready
            }
            Scope::Full { rejected, problems, published } => {
                self.node = Some(NodeStatus::of(run.node, &run.cluster.own, Some(run.outcome)));
                self.daemon.changing = !run.outcome.settled;
                self.store.left_out = rejected.len();
                let left_out = rejected.iter().take(MOST).map(|peer| (peer.node.to_string(), peer.reason.clone()));
                self.left_out = left_out.collect();
                let names: BTreeSet<&str> = run.cluster.peers.keys().map(NodeName::as_str).collect();
                self.peers.retain(|node, _| names.contains(node.as_str()));
                self.follow(run, run.cluster.peers.keys(), now);
                self.last_full_read = Some(now);
                self.set_problems(problems, now);
                published
            }
        };
        for (kind, count) in &report.counts {
            let sum = self.operations.entry(Cow::Borrowed(kind)).or_default();
            sum.applied += count.applied;
            sum.failed += count.failed;
            sum.repairs += if run.trigger.repairs() { count.applied } else { 0 };
        }
        let failed = report.failed.len() + report.conflicts.len();
        // A refused change of a peer's is a problem of that peer.
        self.daemon.ready = published && report.is_ready && report.conflicts.is_empty();
        self.daemon.ready &= !self.is_name_taken();
        self.deferred(run.deferred, now);
        self.last_reconcile = Some(LastReconcile {
            trigger: run.trigger.name().into(),
            at: now,
            milliseconds: milliseconds(run.took),
            changed: u64::try_from(report.applied).unwrap_or(u64::MAX),
            failed: u64::try_from(failed).unwrap_or(u64::MAX),
        });
    }

    /// A run has deferred these. netd is not ready while one of them is undone.
    pub fn deferred(&mut self, deferred: &Deferred, now: Timestamp) {
        let entry = |contested: &Contested<Key>| {
            // Rounded up: by then netd has tried.
            let next = contested
                .next
                .map(|wait| now + Duration::from_secs(wait.as_millis().div_ceil(1000).try_into().unwrap_or(0)));
            (contested.key.to_string(), ContestedObject { times: contested.times, next })
        };
        self.contested = deferred.contested.iter().map(entry).collect();
        self.daemon.ready &= deferred.contested.iter().all(|contested| contested.next.is_none());
    }

    /// A run could not begin.
    pub fn gave_up(&mut self, trigger: Trigger, took: Duration, problem: Problem, now: Timestamp) {
        self.daemon.ready = false;
        let (trigger, milliseconds) = (trigger.name().into(), milliseconds(took));
        self.last_reconcile = Some(LastReconcile { trigger, at: now, milliseconds, changed: 0, failed: 1 });
        self.set_problems(&Problems::from([problem]), now);
    }

    /// Replaces the problems of the pod network. Known problems keep their age.
    pub fn set_problems(&mut self, problems: &Problems, now: Timestamp) {
        self.replace_problems(problems, usize::MAX, false, now);
        self.daemon.ready &= !self.is_name_taken();
    }

    /// The proxy for Services has changed; `problems` are all of its problems.
    pub fn set_proxy(&mut self, proxy: ProxyStatus, problems: &Problems, now: Timestamp) {
        self.daemon.proxy = Some(proxy);
        self.replace_problems(problems, MOST, true, now);
    }

    /// Replaces the problems of the proxy, or all others, by the first ones of `problems`.
    fn replace_problems(&mut self, problems: &Problems, most: usize, of_proxy: bool, now: Timestamp) {
        let known = std::mem::take(&mut self.problems);
        let since = |problem: &Problem| {
            let place = known.binary_search_by(|known| known.problem.cmp(problem));
            place.map_or(now, |place| known[place].since)
        };
        let others = known.iter().map(|known| &known.problem).filter(|problem| problem.kind.is_of_proxy() != of_proxy);
        let all: BTreeSet<&Problem> = others.chain(problems.iter().take(most)).collect();
        let all = all.into_iter().map(|problem| ProblemSince { problem: problem.clone(), since: since(problem) });
        self.problems = all.collect();
    }

    fn is_name_taken(&self) -> bool {
        self.problems.iter().any(|known| known.problem.kind == Kind::NodeNameTaken)
    }

    /// Updates some peers and their routes.
    fn follow<'n>(&mut self, run: &Run<'_>, nodes: impl IntoIterator<Item = &'n NodeName>, now: Timestamp) {
        let missing = unprogrammed(run);
        for node in nodes {
            let known = self.peers.remove(node.as_str());
            if let Some(lease) = run.cluster.peers.get(node) {
                let known = known.map_or_else(Vec::new, |peer| peer.routes);
                self.peers.insert(node.to_string(), PeerStatus::of(run, lease, &known, &missing, now));
            }
        }
    }
}

/// The desired objects that the kernel does not have after a run: refused, deferred, or in conflict with others' objects. Almost
/// always empty.
fn unprogrammed(run: &Run<'_>) -> BTreeSet<Key> {
    let ops = run.report.failed.iter().map(|(op, _)| op).chain(&run.deferred.ops);
    let conflicts = run.report.conflicts.iter().map(|conflict| match conflict {
        Conflict::Route { wanted, .. } => Key::Route(wanted.destination),
        Conflict::Name { name, .. } | Conflict::Tunnel { name, .. } => Key::Device(name.clone()),
    });
    ops.filter(|op| !op.is_removal()).map(Key::of).chain(conflicts).collect()
}

/// True if the route to these pods of a peer lacks no object.
fn is_programmed(missing: &BTreeSet<Key>, desired: &Desired, route: &PeerRoute, subnet: Prefix) -> bool {
    if missing.is_empty() {
        return true;
    }
    let mut keys = vec![Key::Route(subnet)];
    if let Some(device) = desired.routes.get(&subnet).map(|route| &route.device) {
        keys.extend([Key::Device(device.clone()), Key::Neighbour(device.clone(), subnet.address())]);
        keys.extend(route.mac.map(|mac| Key::Fdb(device.clone(), mac)));
    }
    !keys.iter().any(|key| missing.contains(key))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl PeerStatus {
    /// A route that is as it was `known` keeps its age.
    fn of(run: &Run<'_>, lease: &Lease, known: &[RouteStatus], missing: &BTreeSet<Key>, now: Timestamp) -> Self {
        let route = |(place, (family, subnet)): (usize, (Family, &Prefix))| {
            let known = known.get(place);
            let since = known.map_or(now, |known| known.since);
            let route = RouteStatus::of(run, lease, (family, *subnet), missing, since);
            if known == Some(&route) { route } else { RouteStatus { since: now, ..route } }
        };
        // No larger than needed: there may be thousands of peers.
        let mut routes = Vec::with_capacity(lease.subnets.iter().count());
        routes.extend(lease.subnets.iter().enumerate().map(route));
        Self { backend: lease.backend.name(), public: values(&lease.public), routes }
    }
}

impl RouteStatus {
    fn of(
        run: &Run<'_>,
        lease: &Lease,
        (family, subnet): (Family, Prefix),
        missing: &BTreeSet<Key>,
        since: Timestamp,
    ) -> Self {
        let (key, outcome) = ((lease.node.clone(), family), run.outcome);
        let Some(route) = outcome.peer_routes.get(&key) else {
            let why = match outcome.unreachable.get(&key) {
                Some(reason) => reason.to_string().into(),
                None => "nothing is known of it yet".into(),
            };
            return Self { subnet, kind: RouteKind::None, to: None, why, programmed: false, since };
        };
        let kind = if route.is_direct() { RouteKind::Direct } else { RouteKind::Tunnel };
        let why: Cow<'static, str> = match outcome.degraded.get(&key) {
            Some(reason) => format!("{}, not as configured: {reason}", route.encapsulation).into(),
            None => run.node.conf.backend.reason(route),
        };
        let programmed = is_programmed(missing, &outcome.desired, route, subnet);
        Self { subnet, kind, to: Some(route.endpoint), why, programmed, since }
    }
}
