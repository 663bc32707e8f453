//! The kernel's side of the daemon: the connection, the notifications, and the engine that keeps what netd owns as desired.
//!
//! All that the rest of the daemon knows of the engine passes through here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::kernel::Linux;
use dataplane::monitor::{AsyncMonitor, Event};
use network::model::{Admission, Cluster, Lease, NodeName};
use network::observe::PolledState;
use network::overlay::Outcome;
use network::overlay::transition::Transition;
use network::plan::Conflict;
use network::state::FullRun;
use network::{chain, observe};
use tokio::time::Instant;

use crate::bridge::Bridge;
use crate::config::Config;
use crate::node::Node;
use crate::reconcile::{self, Deferred, Planned, ReconcileError, Report, RunKind, Trigger};
use crate::reconciler::{Incremental, Reconciler};

/// How many notifications are read at once, and how often in a row: then the store gets its turn.
const AT_ONCE: usize = 4096;
const ROUNDS: usize = 16;

/// The kernel and the engine.
pub(super) struct KernelSync {
    pub(super) kernel: Linux,
    monitor: AsyncMonitor,
    /// Notifications wait that have not been read.
    behind: bool,
    reconciler: Reconciler,
    bridge: Bridge,
    /// What no notification tells of, as the last full run left it.
    polled: Option<PolledState>,
    /// What times are counted from.
    epoch: Instant,
}

impl KernelSync {
    pub(super) fn new(kernel: Linux, monitor: AsyncMonitor, epoch: Instant) -> Self {
        let (reconciler, bridge) = (Reconciler::default(), Bridge::default());
        Self { kernel, monitor, behind: false, reconciler, bridge, polled: None, epoch }
    }

    /// Waits until the kernel has notifications.
    pub(super) async fn changed(&mut self) {
        self.monitor.changed().await;
    }

    /// Takes the notifications that wait; true where a full run has to put the pods' bridge back.
    pub(super) fn receive(&mut self, cluster: &Cluster) -> bool {
        let mut lost = false;
        self.behind = false;
        for _ in 0..ROUNDS {
            match self.monitor.receive(AT_ONCE) {
                Ok(None) => return lost,
                Ok(Some(events)) => {
                    let subnets = &cluster.own.subnets;
                    lost |= events.iter().filter(|event| self.bridge.notify(event, subnets)).count() > 0;
                    self.reconciler.notify(events);
                }
                Err(error) => {
                    tracing::error!("the kernel's changes cannot be followed, only compared: {}", chain(&error));
                    self.reconciler.notify(vec![Event::Overrun]);
                    return lost;
                }
            }
        }
        self.behind = true;
        lost
    }

    /// True where notifications wait that have not been read: what the kernel has now is not known.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// True where something has changed in the kernel since the last run.
    pub(super) fn is_dirty(&self) -> bool {
        self.reconciler.engine().is_dirty()
    }

    /// True where something has changed that only a full run can repair.
    pub(super) fn needs_full(&self) -> bool {
        self.reconciler.engine().needs_full()
    }

    /// True where an incremental run can repair what changes.
    pub(super) fn can_be_incremental(&self) -> bool {
        self.reconciler.engine().is_incremental()
    }

    /// When an object that something else changes again and again is repaired next.
    pub(super) fn next_repair(&self) -> Option<Instant> {
        self.reconciler.engine().next_repair().map(|next| self.epoch + next)
    }

    /// What the last full run wanted.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.reconciler.outcome()
    }

    /// What was desired is not any more: the next run is a full one.
    pub(super) fn reset(&mut self) {
        self.reconciler.forget();
    }

    /// True where sysctls were written since the last call, and are not as desired or as the last full run left them.
    pub(super) fn sysctls_differ(&mut self, node: &Node) -> bool {
        if !self.reconciler.take_sysctls_changed() {
            return false;
        }
        let Some(outcome) = self.reconciler.outcome() else { return false };
        let desired = &outcome.desired;
        let sysctls = observe::sysctls(&mut self.kernel, desired, &node.underlay.ifname);
        let is_desired = |(key, value)| sysctls.get(key).is_some_and(|there| there.as_ref() == Some(value));
        !desired.sysctls.iter().all(is_desired) || self.polled.as_ref().is_some_and(|polled| polled.sysctls != sysctls)
    }

    /// True where something that no notification tells of is not as the last full run left it.
    pub(super) fn polled_state_differs(&mut self, node: &Node) -> bool {
        self.poll(node) != self.polled
    }

    fn poll(&mut self, node: &Node) -> Option<PolledState> {
        let desired = &self.reconciler.outcome()?.desired;
        observe::polled_state(&mut self.kernel, &node.identity, desired, &node.underlay.ifname).ok()
    }

    /// Compares all that netd owns with what is desired.
    ///
    /// # Errors
    /// Where the kernel cannot be read, or the network cannot be carried.
    pub(super) fn plan(
        &mut self,
        node: &Node,
        cluster: &Cluster,
        config: &Config,
        transition: &Transition,
    ) -> Result<Planned, ReconcileError> {
        let mut planned = reconcile::plan(&mut self.kernel, node, cluster, config.rules, transition)?;
        let pod_mtu = planned.outcome.pod_mtu.unwrap_or(node.underlay.mtu);
        planned.plan.ops.extend(self.bridge.repair(&planned.observed, &cluster.own.subnets, pod_mtu));
        Ok(planned)
    }

    /// Applies a plan, but for the repairs that have to wait.
    pub(super) fn apply(&mut self, trigger: Trigger, node: &Node, planned: &mut Planned) -> (Report, Deferred) {
        let Planned { plan, outcome, observed, .. } = planned;
        if observed.links.get(&node.underlay.ifname).is_none_or(|link| !link.up) {
            self.reconciler.reset_backoff();
        }
        let (kind, now) = (RunKind { repairs: trigger.repairs(), full: true }, self.now());
        self.reconciler.run(&mut self.kernel, std::mem::take(plan), &outcome.desired, kind, now)
    }

    /// Keeps the state of a full run true from here on. `is_clean` is false where the run has left something undone.
    pub(super) fn keep(
        &mut self,
        planned: Planned,
        conflicts: Vec<Conflict>,
        admission: Admission,
        on: (&Node, &Config),
        is_clean: bool,
    ) {
        let (node, config) = on;
        let Planned { outcome, observed, peers, .. } = planned;
        let full = FullRun { outcome, peers, admission, observed, conflicts, is_clean };
        let follows_routes = config.underlay.can_reach.is_some();
        self.reconciler.adopt(full, node, self.kernel.nft_port(), follows_routes);
        if let Some(filter) = self.reconciler.subscription() {
            self.monitor.set_filter(filter);
        }
        self.polled = self.poll(node);
    }

    /// Repairs what has changed in the kernel, and follows the peers of which `news` are. `None` where only a full run can do that.
    pub(super) fn update(
        &mut self,
        node: &Node,
        cluster: &mut Cluster,
        news: BTreeMap<NodeName, Option<Arc<Lease>>>,
    ) -> Option<Incremental> {
        let now = self.now();
        self.reconciler.update(&mut self.kernel, node, cluster, news, now)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}
