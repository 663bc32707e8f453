//! Keeps the kernel as it should be: full runs after a dump, and runs over dirty keys in between.
//!
//! Both kinds of run carry a plan out in the same way. A change that a run over dirty keys cannot answer is left to a full run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::kernel::Kernel;
use dataplane::monitor::Event;
use dataplane::types::PerFamily;
use network::model::{Cluster, Lease, NodeName};
use network::overlay::{Identity, Outcome};
use network::state::{Engine, FullRun, State, WatchFilter};

use crate::node::Node;
use crate::reconcile::{self, Deferred, Report, RunKind};

/// The engine, and the state since the last full run.
#[derive(Debug, Default)]
pub struct Reconciler {
    /// The dirty keys and the repairs.
    pub engine: Engine,
    /// None before the first full run.
    pub state: Option<State>,
}

/// The result of a run over dirty keys.
#[derive(Debug)]
pub struct Incremental {
    /// What the run did.
    pub report: Report,
    /// What is left for later, since something else undoes it again and again.
    pub deferred: Deferred,
    /// The peers that came, went or changed.
    pub nodes: Vec<NodeName>,
}

impl Reconciler {
    /// Goes on from a full run. Notifications that were not taken before the run are still to come. `port` is that of the own nftables
    /// socket; `follows_routes` is true where any route chooses the interface between nodes.
    pub fn adopt(&mut self, full: FullRun, node: &Node, port: u32, follows_routes: bool) {
        let filter = WatchFilter {
            identity: Identity { former: PerFamily::none(), ..node.identity.clone() },
            table: node.identity.table(),
            port,
            underlay: (node.underlay.index, node.underlay.ifname.clone()),
            follows_routes: follows_routes || full.peers.follows_routes(),
        };
        self.state = Some(State::new(full, filter, &mut self.engine));
    }

    /// Forgets all but the repairs: the next run has to be a full one.
    pub fn forget(&mut self) {
        self.engine.forget();
        self.state = None;
    }

    /// Takes notifications of the kernel.
    pub fn notify(&mut self, events: Vec<Event>) {
        if let Some(state) = &mut self.state {
            for event in events {
                state.notify(event, &mut self.engine);
            }
        }
    }

    /// What the last run desired.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.state.as_ref().map(State::outcome)
    }

    /// Makes the dirty keys as desired, and those that follow from the present leases of some nodes. `None` where a full run has to;
    /// then nothing was changed, or something could not be.
    pub fn update(
        &mut self,
        kernel: &mut impl Kernel,
        cluster: &mut Cluster,
        leases: BTreeMap<NodeName, Option<Arc<Lease>>>,
        now: Duration,
    ) -> Option<Incremental> {
        let done = self.try_update(kernel, cluster, leases, now);
        if done.is_none() {
            self.engine.give_up();
        }
        done
    }

    fn try_update(
        &mut self,
        kernel: &mut impl Kernel,
        cluster: &mut Cluster,
        leases: BTreeMap<NodeName, Option<Arc<Lease>>>,
        now: Duration,
    ) -> Option<Incremental> {
        let (engine, state) = (&mut self.engine, self.state.as_mut()?);
        if !engine.is_incremental() {
            return None;
        }
        let kind = RunKind { repairs: leases.is_empty(), full: false };
        let nodes = leases.keys().filter(|node| **node != cluster.own.node).cloned().collect();
        if !leases.is_empty() && !state.update_peers(cluster, leases, engine) {
            return None;
        }
        let plan = state.plan(engine)?;
        let desired = &state.outcome().desired;
        let apply = |ops: &[_]| reconcile::carry_out(kernel, ops);
        let (report, deferred) = engine.run(desired, plan.ops, plan.conflicts, (kind, now), apply);
        if !report.is_clean() {
            return None;
        }
        Some(Incremental { report, deferred, nodes })
    }
}

#[cfg(test)]
mod tests;
