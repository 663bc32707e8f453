//! Between two full runs: what the last one found and wanted, kept true by what is heard since, so that a change costs what
//! it changes.
//!
//! What raises a question that one peer's entries do not answer is left to a full run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dataplane::kernel::Kernel;
use dataplane::monitor::{Event, Filter};
use dataplane::types::{PerFamily, Prefix};
use network::mirror::{Interest, Keys, Mirror, Stir};
use network::model::{Claims, Cluster, Lease, NodeName};
use network::observe::Observed;
use network::overlay::amend::{Change, Ground};
use network::overlay::{Identity, Outcome};
use network::patience::{Held, Occasion, Patience};
use network::plan::Plan;

use crate::node::Node;
use crate::reconcile::{self, Report};

/// What is known since the last full run; nothing before the first.
#[derive(Debug, Default)]
pub struct Upkeep {
    standing: Option<Standing>,
    stir: Stir,
}

/// What a full run leaves behind.
#[derive(Debug)]
struct Standing {
    outcome: Outcome,
    mirror: Mirror,
    interest: Interest,
    ground: Ground,
    claims: Claims,
    left_out: Vec<Arc<Lease>>,
    /// Where somebody else's routes stand.
    taken: BTreeSet<Prefix>,
    /// False where the run left something undone, or the rest of this is not true any more.
    sound: bool,
}

/// A full run, as far as it stays true.
#[derive(Debug)]
pub struct Found {
    /// What was wanted.
    pub outcome: Outcome,
    /// What was there before the run changed anything.
    pub observed: Observed,
    /// What the ways to peers follow from.
    pub ground: Ground,
    /// The leases of nodes that were left out.
    pub left_out: Vec<Arc<Lease>>,
    /// Where somebody else's routes stand.
    pub taken: BTreeSet<Prefix>,
    /// Whether everything else was done.
    pub clean: bool,
}

/// A run that looked at some places only.
#[derive(Debug)]
pub struct Amended {
    /// What came of it.
    pub report: Report,
    /// What is left for later, since something else undoes it again and again.
    pub held: Held,
    /// The peers that came, went or changed.
    pub nodes: Vec<NodeName>,
}

impl Upkeep {
    /// Goes on from a full run. Events that were not heard before it began are still to come. `port` is that of the own
    /// nftables socket; `follows_routes` where the interface between nodes is chosen by any route.
    pub fn begin(&mut self, found: Found, cluster: &Cluster, node: &Node, port: u32, follows_routes: bool) {
        let Found { outcome, mut observed, ground, left_out, taken, clean } = found;
        observed.table = None;
        let interest = Interest {
            identity: Identity { former: PerFamily::none(), ..node.identity.clone() },
            table: node.identity.table(),
            port,
            underlay: (node.underlay.index, node.underlay.ifname.clone()),
            follows_routes: follows_routes || ground.follows_routes(&node.conf),
        };
        let mirror = Mirror::new(observed, &outcome.desired, &node.identity);
        let sound = clean && outcome.settled;
        let claims = Claims::of(cluster);
        self.standing = Some(Standing { outcome, mirror, interest, ground, claims, left_out, taken, sound });
        self.stir = Stir::default();
    }

    /// The notifications that are wanted of the kernel from here on; `None` before the first full run.
    pub fn filter(&self) -> Option<Filter> {
        let standing = self.standing.as_ref()?;
        Some(standing.mirror.filter(&standing.interest, standing.outcome.desired.table.as_ref()))
    }

    /// Takes what has happened in the kernel since.
    pub fn hear(&mut self, events: Vec<Event>) {
        if let Some(standing) = &mut self.standing {
            for event in events {
                standing.mirror.take(event, &standing.interest, &standing.outcome.desired, &mut self.stir);
            }
        }
    }

    /// True where something is to be looked at.
    pub fn is_stirred(&self) -> bool {
        !self.stir.is_empty()
    }

    /// True where sysctls have been set since it was asked last.
    pub fn take_tuned(&mut self) -> bool {
        std::mem::take(&mut self.stir.tuned)
    }

    /// True where something is to be looked at that only a full run can answer.
    pub fn needs_whole(&self) -> bool {
        self.stir.whole || !self.stir.is_empty() && !self.is_sound()
    }

    /// True where a change can be answered without a full run.
    pub fn is_sound(&self) -> bool {
        !self.stir.lost && self.standing.as_ref().is_some_and(|standing| standing.sound)
    }

    /// What was wanted last.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.standing.as_ref().map(|standing| &standing.outcome)
    }

    /// Makes some places as they should be: those that have stirred, and those of peers of which `told` is new. `None`
    /// where a full run is needed; then nothing was changed, or something could not be.
    pub fn amend(
        &mut self,
        kernel: &mut impl Kernel,
        node: &Node,
        cluster: &mut Cluster,
        told: BTreeMap<NodeName, Option<Arc<Lease>>>,
        patience: (&mut Patience, Duration),
    ) -> Option<Amended> {
        let stir = std::mem::take(&mut self.stir);
        let standing = self.standing.as_mut();
        let amended = standing.filter(|standing| standing.sound && !stir.lost).and_then(|standing| {
            let amended = standing.amend(kernel, node, cluster, told, stir.keys, patience);
            standing.sound = amended.is_some();
            amended
        });
        self.stir = Stir { whole: stir.whole || amended.is_none(), keys: Keys::default(), ..stir };
        amended
    }
}

impl Standing {
    fn amend(
        &mut self,
        kernel: &mut impl Kernel,
        node: &Node,
        cluster: &mut Cluster,
        told: BTreeMap<NodeName, Option<Arc<Lease>>>,
        mut keys: Keys,
        (patience, now): (&mut Patience, Duration),
    ) -> Option<Amended> {
        let mut leases = BTreeMap::new();
        let occasion = Occasion { repairs: told.is_empty(), full: false };
        if !told.is_empty() {
            if told.keys().any(|node| self.may_let_in(node, cluster)) {
                return None;
            }
            leases = cluster.amend(&mut self.claims, told, &node.identity.networks)?;
            let changes: Vec<Change<'_>> = leases
                .iter()
                .map(|(node, now)| Change {
                    node,
                    former: cluster.peers.get(node).map(AsRef::as_ref),
                    now: now.as_deref(),
                })
                .collect();
            let places = self.ground.amend(&node.conf, &node.underlay.ifname, &mut self.outcome, &changes)?;
            keys.extend(places);
        }
        let desired = &mut self.outcome.desired;
        // Of what we change in nftables ourselves nothing is heard: what was wanted is there.
        let table = desired.part(&keys).table;
        self.ground.set_nodes(&keys.nodes, desired);
        let desired = &*desired;
        let keys = keys.widened(self.mirror.observed(), desired);
        if !keys.routes.is_disjoint(&self.taken) {
            return None;
        }
        let observed = Observed { table, ..self.mirror.observed().part(&keys, desired) };
        let mut plan = Plan::diff(&observed, &desired.part(&keys), &self.interest.identity);
        if !plan.is_of_entries() {
            return None;
        }
        let held = patience.hold(&mut plan, desired, occasion, now);
        let report = reconcile::apply(kernel, plan);
        patience.refused(report.failed.iter().map(|(op, _)| op), desired, now);
        if !report.is_clean() {
            return None;
        }
        let nodes: Vec<NodeName> = leases.keys().cloned().collect();
        for (node, lease) in leases {
            match lease {
                Some(lease) => drop(cluster.peers.insert(node, lease)),
                None => drop(cluster.peers.remove(&node)),
            }
        }
        Some(Amended { report, held, nodes })
    }

    /// True where what becomes of a node may make room for one that was left out.
    fn may_let_in(&self, node: &NodeName, cluster: &Cluster) -> bool {
        let former = cluster.peers.get(node);
        let stands_in_its_way = |out: &Arc<Lease>| former.is_some_and(|former| former.clashes_with(out));
        self.left_out.iter().any(|out| out.node == *node || stands_in_its_way(out))
    }
}

#[cfg(test)]
mod tests;
