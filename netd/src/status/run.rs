//! How a run changes the status.
//!
//! Pure: the time is an argument. What has not changed keeps its age, and is not written anew: there may be thousands of peers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::{Family, Prefix};
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::overlay::Outcome;
use network::patience::Held;

use super::missing::Missing;
use super::moment::Moment;
use super::{Peer, ProblemSince, Reconcile, Sort, Status, WayTo, values};
use crate::node::Node;
use crate::problem::{Problem, Problems};
use crate::reconcile::{Report, Trigger};

/// What the daemon says of a run.
#[derive(Debug)]
pub struct Run<'a> {
    /// Why it ran.
    pub trigger: Trigger,
    /// How long it took.
    pub took: Duration,
    /// The peers that came, went or changed, where nothing else was looked at; `None` where all that is ours was read.
    pub only: Option<&'a [NodeName]>,
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
    /// What is wrong, where all that is ours was read.
    pub problems: &'a Problems,
    /// What is left for later, since something else undoes it again and again.
    pub held: &'a Held,
    /// Whether the plugin can read how things are.
    pub published: bool,
}

impl Status {
    /// A run is over.
    pub fn reconciled(&mut self, run: &Run<'_>, now: Moment) {
        let report = run.report;
        if let Some(nodes) = run.only {
            self.follow_some(run, nodes, now);
        } else {
            self.joined(run.node, &run.cluster.own, Some(run.outcome));
            self.changing = !run.outcome.settled;
            let left_out = run.rejected.iter().map(|peer| (peer.node.to_string(), peer.reason.to_string()));
            self.left_out = left_out.collect();
            self.follow(run, &Missing::of(report, &run.held.ops), now);
            self.last_full_read = Some(now);
            self.set_problems(run.problems, now);
        }
        for (kind, count) in &report.counts {
            let sum = self.operations.entry(Cow::Borrowed(kind)).or_default();
            sum.applied += count.applied;
            sum.failed += count.failed;
            sum.repairs += if run.trigger.repairs() { count.applied } else { 0 };
        }
        let failed = report.failed.len() + report.conflicts.len();
        self.ready = run.published && failed == 0;
        self.held(run.held, now);
        self.last_reconcile = Some(Reconcile {
            trigger: run.trigger.name().into(),
            at: now,
            milliseconds: milliseconds(run.took),
            changed: u64::try_from(report.applied).unwrap_or(u64::MAX),
            failed: u64::try_from(failed).unwrap_or(u64::MAX),
        });
    }

    /// A run could not even begin.
    pub fn gave_up(&mut self, trigger: Trigger, took: Duration, problem: Problem, now: Moment) {
        self.ready = false;
        let (trigger, milliseconds) = (trigger.name().into(), milliseconds(took));
        self.last_reconcile = Some(Reconcile { trigger, at: now, milliseconds, changed: 0, failed: 1 });
        self.set_problems(&Problems::from([problem]), now);
    }

    /// These are the problems now; those that were known stay as old as they are.
    fn set_problems(&mut self, problems: &Problems, now: Moment) {
        let known = std::mem::take(&mut self.problems);
        let since = |problem: &Problem| {
            let place = known.binary_search_by(|known| known.problem.cmp(problem));
            place.map_or(now, |place| known[place].since)
        };
        let all = problems.iter().map(|problem| ProblemSince { problem: problem.clone(), since: since(problem) });
        self.problems = all.collect();
    }

    /// Takes over some peers.
    fn follow_some(&mut self, run: &Run<'_>, nodes: &[NodeName], now: Moment) {
        let missing = Missing::of(run.report, &run.held.ops);
        for node in nodes {
            match run.cluster.peers.get(node) {
                Some(lease) => {
                    let peer = self.peers.entry(node.to_string()).or_insert_with(|| Peer::new(lease));
                    peer.follow(run, lease, &missing, now);
                }
                None => drop(self.peers.remove(node.as_str())),
            }
        }
    }

    /// Takes over the peers and the ways to them. A way that has not changed keeps its age.
    fn follow(&mut self, run: &Run<'_>, missing: &Missing, now: Moment) {
        let peers = &run.cluster.peers;
        if self.peers.len() != peers.len() || !self.peers.keys().zip(peers.keys()).all(|(a, b)| a == b.as_str()) {
            let mut known = std::mem::take(&mut self.peers);
            let name = |(node, lease): (&NodeName, &Arc<Lease>)| {
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
        let ways = Vec::with_capacity(lease.subnets.iter().count());
        Self { backend: lease.backend.name(), public: values(&lease.public), ways }
    }

    fn follow(&mut self, run: &Run<'_>, lease: &Lease, missing: &Missing, now: Moment) {
        if self.backend != lease.backend.as_str() {
            self.backend = lease.backend.name();
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
        let (way, to, why, programmed) = match (run.outcome.peer_routes.get(&key), run.outcome.unreachable.get(&key)) {
            (Some(way), _) => {
                let sort = if way.is_direct() { Sort::Direct } else { Sort::Tunnel };
                let programmed = !missing.covers(&run.outcome.desired, *way, subnet);
                let why = match run.outcome.degraded.get(&key) {
                    Some(reason) => format!("{}, not as configured: {reason}", way.encapsulation).into(),
                    None => run.node.conf.backend.reason(way),
                };
                (sort, Some(way.endpoint), why, programmed)
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
