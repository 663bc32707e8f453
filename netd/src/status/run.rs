//! How a run changes the status.
//!
//! Pure: the time is an argument. Values that have not changed keep their age and are not written anew: there may be thousands of peers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::{Family, Prefix};
use jiff::Timestamp;
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::overlay::Outcome;

use super::unprogrammed::Unprogrammed;
use super::{LastReconcile, PeerStatus, ProblemSince, RouteKind, RouteStatus, Status, values};
use crate::node::Node;
use crate::problem::{Problem, Problems};
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
    /// Whether the plugin's files are up to date.
    pub published: bool,
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
    },
    /// Only the peers that came, went or changed.
    Peers(&'a [NodeName]),
}

impl Status {
    /// A run has ended.
    pub fn reconciled(&mut self, run: &Run<'_>, now: Timestamp) {
        let report = run.report;
        match run.scope {
            Scope::Peers(nodes) => self.follow_some(run, nodes, now),
            Scope::Full { rejected, problems } => {
                self.joined(run.node, &run.cluster.own, Some(run.outcome));
                self.daemon.changing = !run.outcome.settled;
                let left_out = rejected.iter().map(|peer| (peer.node.to_string(), peer.reason.clone()));
                self.left_out = left_out.collect();
                self.follow(run, &Unprogrammed::of(report, &run.deferred.ops), now);
                self.last_full_read = Some(now);
                self.set_problems(problems, now);
            }
        }
        for (kind, count) in &report.counts {
            let sum = self.operations.entry(Cow::Borrowed(kind)).or_default();
            sum.applied += count.applied;
            sum.failed += count.failed;
            sum.repairs += if run.trigger.repairs() { count.applied } else { 0 };
        }
        let failed = report.failed.len() + report.conflicts.len();
        self.daemon.ready = run.published && failed == 0;
        self.deferred(run.deferred, now);
        self.last_reconcile = Some(LastReconcile {
            trigger: run.trigger.name().into(),
            at: now,
            milliseconds: milliseconds(run.took),
            changed: u64::try_from(report.applied).unwrap_or(u64::MAX),
            failed: u64::try_from(failed).unwrap_or(u64::MAX),
        });
    }

    /// A run could not begin.
    pub fn gave_up(&mut self, trigger: Trigger, took: Duration, problem: Problem, now: Timestamp) {
        self.daemon.ready = false;
        let (trigger, milliseconds) = (trigger.name().into(), milliseconds(took));
        self.last_reconcile = Some(LastReconcile { trigger, at: now, milliseconds, changed: 0, failed: 1 });
        self.set_problems(&Problems::from([problem]), now);
    }

    /// Replaces the problems. Known problems keep their age.
    pub(super) fn set_problems(&mut self, problems: &Problems, now: Timestamp) {
        let known = std::mem::take(&mut self.problems);
        let since = |problem: &Problem| {
            let place = known.binary_search_by(|known| known.problem.cmp(problem));
            place.map_or(now, |place| known[place].since)
        };
        let all = problems.iter().map(|problem| ProblemSince { problem: problem.clone(), since: since(problem) });
        self.problems = all.collect();
    }

    /// Updates some peers.
    fn follow_some(&mut self, run: &Run<'_>, nodes: &[NodeName], now: Timestamp) {
        let unprogrammed = Unprogrammed::of(run.report, &run.deferred.ops);
        for node in nodes {
            match run.cluster.peers.get(node) {
                Some(lease) => {
                    let peer = self.peers.entry(node.to_string()).or_insert_with(|| PeerStatus::new(lease));
                    peer.follow(run, lease, &unprogrammed, now);
                }
                None => drop(self.peers.remove(node.as_str())),
            }
        }
    }

    /// Updates all peers and their routes. A route that has not changed keeps its age.
    fn follow(&mut self, run: &Run<'_>, unprogrammed: &Unprogrammed, now: Timestamp) {
        let peers = &run.cluster.peers;
        if self.peers.len() != peers.len() || !self.peers.keys().zip(peers.keys()).all(|(a, b)| a == b.as_str()) {
            let mut known = std::mem::take(&mut self.peers);
            let name = |(node, lease): (&NodeName, &Arc<Lease>)| {
                known.remove_entry(node.as_str()).unwrap_or_else(|| (node.to_string(), PeerStatus::new(lease)))
            };
            self.peers = peers.iter().map(name).collect();
        }
        // Both are sorted by name.
        for (peer, lease) in self.peers.values_mut().zip(peers.values()) {
            peer.follow(run, lease, unprogrammed, now);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl PeerStatus {
    fn new(lease: &Lease) -> Self {
        let routes = Vec::with_capacity(lease.subnets.iter().count());
        Self { backend: lease.backend.name(), public: values(&lease.public), routes }
    }

    fn follow(&mut self, run: &Run<'_>, lease: &Lease, unprogrammed: &Unprogrammed, now: Timestamp) {
        if self.backend != lease.backend.as_str() {
            self.backend = lease.backend.name();
        }
        if !self.public.iter().eq(lease.public.iter().map(|(_, address)| address)) {
            self.public = values(&lease.public);
        }
        let mut place = 0;
        for (family, subnet) in lease.subnets.iter() {
            let new = RouteStatus::find(run, lease, (family, *subnet), unprogrammed, now);
            match self.routes.get_mut(place) {
                Some(known) if known.is_as(&new) => {}
                Some(known) => *known = new,
                None => self.routes.push(new),
            }
            place += 1;
        }
        self.routes.truncate(place);
    }
}

impl RouteStatus {
    fn find(
        run: &Run<'_>,
        lease: &Lease,
        (family, subnet): (Family, Prefix),
        unprogrammed: &Unprogrammed,
        now: Timestamp,
    ) -> Self {
        let key = (lease.node.clone(), family);
        let (kind, to, why, programmed) = match (run.outcome.peer_routes.get(&key), run.outcome.unreachable.get(&key)) {
            (Some(route), _) => {
                let kind = if route.is_direct() { RouteKind::Direct } else { RouteKind::Tunnel };
                let programmed = !unprogrammed.covers(&run.outcome.desired, *route, subnet);
                let why = match run.outcome.degraded.get(&key) {
                    Some(reason) => format!("{}, not as configured: {reason}", route.encapsulation).into(),
                    None => run.node.conf.backend.reason(route),
                };
                (kind, Some(route.endpoint), why, programmed)
            }
            (None, Some(reason)) => (RouteKind::None, None, reason.to_string().into(), false),
            (None, None) => (RouteKind::None, None, "nothing is known of it yet".into(), false),
        };
        Self { subnet, kind, to, why, programmed, since: now }
    }

    fn is_as(&self, new: &Self) -> bool {
        (self.subnet, self.kind, self.to, self.programmed) == (new.subnet, new.kind, new.to, new.programmed)
            && self.why == new.why
    }
}
