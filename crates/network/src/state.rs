//! The state between runs: what is desired, which peers it follows from, and how notifications of the kernel are read.
//!
//! Pure. A full run builds the state; changes of peers and notifications keep it true, and mark the keys that differ as dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane::monitor::{Event, Filter};
use dataplane::types::IfName;

pub use crate::kernel_view::{Engine, WatchFilter};

use crate::kernel_view::KernelView;
use crate::key::Key;
use crate::model::{Admission, Cluster, Lease, NodeName};
use crate::observe::Observed;
use crate::overlay::Outcome;
use crate::overlay::peer_index::PeerIndex;
use crate::plan::{Conflict, Plan};
use crate::subset;

/// The state between runs.
#[derive(Debug)]
pub struct State {
    outcome: Outcome,
    peers: PeerIndex,
    admission: Admission,
    view: KernelView,
}

/// What a full run leaves behind.
#[derive(Debug)]
pub struct FullRun {
    /// What is desired.
    pub outcome: Outcome,
    /// The peers from which it follows.
    pub peers: PeerIndex,
    /// Which peers are believed.
    pub admission: Admission,
    /// What was there before the run changed anything.
    pub observed: Observed,
    /// Where objects of others stand in the place of ours.
    pub conflicts: Vec<Conflict>,
    /// The devices that the run could not make.
    pub unmade: BTreeSet<IfName>,
    /// Whether everything else was done.
    pub is_clean: bool,
}

impl State {
    /// Goes on from a full run. The notifications of what the run changed are still to come.
    pub fn new(full: FullRun, filter: WatchFilter, engine: &mut Engine) -> Self {
        let FullRun { outcome, peers, admission, observed, conflicts, unmade, is_clean } = full;
        let of_route = |conflict: &Conflict| {
            if let Conflict::Route { wanted, .. } = conflict { Some(Key::Route(wanted.destination)) } else { None }
        };
        let reported: BTreeSet<Key> = conflicts.iter().filter_map(of_route).collect();
        // More than some keys depends on a device that cannot be made.
        let has_devices = reported.len() == conflicts.len();
        let deviations = observed.deviations(&outcome.desired, |destination| filter.tracks(destination));
        engine.adopt(deviations, reported, is_clean && has_devices && outcome.settled);
        let mut view = KernelView::new(observed.links, &outcome.desired, filter);
        view.unmade = unmade;
        Self { outcome, peers, admission, view }
    }

    /// What is desired.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The notifications of the kernel that matter.
    pub fn subscription(&self) -> Filter {
        self.view.subscription(&self.outcome.desired)
    }

    /// Takes a notification of the kernel.
    pub fn notify(&mut self, event: Event, engine: &mut Engine) {
        self.view.notify(event, &self.outcome.desired, engine);
    }

    /// True where sysctls have changed since the last call.
    pub fn take_sysctls_changed(&mut self) -> bool {
        self.view.take_sysctls_changed()
    }

    /// Takes the present leases of some nodes; false where more follows from them than entries of peers, so that only a full run is
    /// right.
    pub fn update_peers(
        &mut self,
        cluster: &mut Cluster,
        leases: BTreeMap<NodeName, Option<Arc<Lease>>>,
        engine: &mut Engine,
    ) -> bool {
        let (changes, same_left_out) = self.admission.update(cluster, leases);
        let mut former = Some(BTreeMap::new());
        let is_local = self.peers.update(&changes, &mut self.outcome, &mut former);
        for (key, value) in former.into_iter().flatten() {
            let desired = self.outcome.desired.value(&key);
            engine.change(key, value, &desired);
        }
        is_local && same_left_out
    }

    /// What makes the dirty keys as desired; `None` where only a full run can.
    pub fn plan(&self, engine: &mut Engine) -> Option<Plan> {
        let desired = &self.outcome.desired;
        let mut keys = engine.take_keys()?;
        subset::widen(&mut keys, engine, desired);
        if engine.is_reported(&keys) {
            return None;
        }
        let observed = subset::observed(&keys, engine, desired, &self.view);
        let plan = Plan::diff(&observed, &desired.subset(&keys), &self.view.filter.identity);
        plan.is_of_entries().then_some(plan)
    }
}
