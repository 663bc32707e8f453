//! The kernel's side of the daemon: the connection, the notifications, and the engine that keeps what netd owns as desired.
//!
//! All that the rest of the daemon knows of the engine passes through here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::kernel::Linux;
use dataplane::monitor::{AsyncMonitor, Event, Filter, Subscription};
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::observe::Quiet;
use network::overlay::Outcome;
use network::overlay::transition::Transition;
use network::patience::{Held, Occasion, Patience};
use network::{chain, observe};
use tokio::time::Instant;

use super::store_view::Leases;
use crate::bridge::Bridge;
use crate::config::Config;
use crate::node::Node;
use crate::reconcile::{self, Planned, ReconcileError, Report, Trigger};
use crate::upkeep::{Amended, Found, Upkeep};

/// How many notifications are read at once, and how often in a row: then the store gets its turn.
const AT_ONCE: usize = 4096;
const ROUNDS: usize = 16;

/// The kernel and the engine.
pub(super) struct KernelSync {
    pub(super) kernel: Linux,
    monitor: AsyncMonitor,
    subscription: Subscription,
    /// Notifications wait that have not been read.
    behind: bool,
    upkeep: Upkeep,
    patience: Patience,
    bridge: Bridge,
    /// What no notification tells of, as the last full run left it.
    polled: Option<Quiet>,
    /// What times are counted from.
    epoch: Instant,
}

impl KernelSync {
    pub(super) fn new(kernel: Linux, mut monitor: AsyncMonitor, epoch: Instant) -> Self {
        let (upkeep, patience, bridge) = (Upkeep::default(), Patience::default(), Bridge::default());
        let subscription = monitor.subscribe(Filter::all());
        Self { kernel, monitor, subscription, behind: false, upkeep, patience, bridge, polled: None, epoch }
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
                Ok(false) => return lost,
                Ok(true) => {
                    let events = self.monitor.take(self.subscription);
                    let subnets = &cluster.own.subnets;
                    lost |= events.iter().filter(|event| self.bridge.hear(event, subnets)).count() > 0;
                    self.upkeep.hear(events);
                }
                Err(error) => {
                    tracing::error!("the kernel's changes cannot be followed, only compared: {}", chain(&error));
                    self.upkeep.hear(vec![Event::Overrun]);
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
        self.upkeep.is_stirred()
    }

    /// True where something has changed that only a full run can repair.
    pub(super) fn needs_full(&self) -> bool {
        self.upkeep.needs_whole()
    }

    /// True where an incremental run can repair what changes.
    pub(super) fn can_be_incremental(&self) -> bool {
        self.upkeep.is_sound()
    }

    /// When an object that something else changes again and again is repaired next.
    pub(super) fn next_repair(&self) -> Option<Instant> {
        self.patience.next().map(|next| self.epoch + next)
    }

    /// What the last full run wanted.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.upkeep.outcome()
    }

    /// What was desired is not any more: the next run is a full one.
    pub(super) fn reset(&mut self) {
        self.upkeep = Upkeep::default();
    }

    /// True where sysctls were written since the last call, and are not as desired or as the last full run left them.
    pub(super) fn sysctls_differ(&mut self, node: &Node) -> bool {
        if !self.upkeep.take_tuned() {
            return false;
        }
        let Some(outcome) = self.upkeep.outcome() else { return false };
        let desired = &outcome.desired;
        let sysctls = observe::sysctls(&mut self.kernel, desired, &node.underlay.ifname);
        let is_desired = |(key, value)| sysctls.get(key).is_some_and(|there| there.as_ref() == Some(value));
        !desired.sysctls.iter().all(is_desired) || self.polled.as_ref().is_some_and(|polled| polled.sysctls != sysctls)
    }

    /// True where something that no notification tells of is not as the last full run left it.
    pub(super) fn polled_state_differs(&mut self, node: &Node) -> bool {
        self.poll(node) != self.polled
    }

    fn poll(&mut self, node: &Node) -> Option<Quiet> {
        let desired = &self.upkeep.outcome()?.desired;
        observe::quiet(&mut self.kernel, &node.identity, desired, &node.underlay.ifname).ok()
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
        planned.plan.ops.extend(self.bridge.mend(&planned.observed, &cluster.own.subnets, pod_mtu));
        Ok(planned)
    }

    /// Applies a plan, but for the repairs that have to wait.
    pub(super) fn apply(&mut self, trigger: Trigger, node: &Node, planned: &mut Planned) -> (Report, Held) {
        let Planned { plan, outcome, observed, .. } = planned;
        if observed.links.get(&node.underlay.ifname).is_none_or(|link| !link.up) {
            self.patience.excuse();
        }
        let (occasion, now) = (Occasion { repairs: trigger.repairs(), full: true }, self.now());
        let held = self.patience.hold(plan, &outcome.desired, occasion, now);
        let report = reconcile::apply(&mut self.kernel, std::mem::take(plan));
        self.patience.refused(report.failed.iter().map(|(op, _)| op), &outcome.desired, now);
        (report, held)
    }

    /// Keeps what a full run has found and desired true from here on. `clean` is false where the run has left something undone.
    pub(super) fn keep(
        &mut self,
        planned: Planned,
        report: &Report,
        peers: (&Leases, &[Rejected]),
        on: (&Node, &Cluster, &Config),
        clean: bool,
    ) {
        let (leases, rejected) = peers;
        let (node, cluster, config) = on;
        let Planned { outcome, observed, ground, .. } = planned;
        let is_left_out = |lease: &&Arc<Lease>| rejected.iter().any(|peer| peer.node == lease.node);
        let left_out = leases.values().filter(is_left_out).cloned().collect();
        let taken = report.taken();
        // A device that cannot be made leaves more open than some routes.
        let clean = clean && taken.len() == report.conflicts.len();
        let found = Found { outcome, observed, ground, left_out, taken, clean };
        let follows_routes = config.underlay.can_reach.is_some();
        self.upkeep.begin(found, cluster, node, self.kernel.nft_port(), follows_routes);
        if let Some(filter) = self.upkeep.filter() {
            self.monitor.set_filter(self.subscription, filter);
        }
        self.polled = self.poll(node);
    }

    /// Repairs what has changed in the kernel, and follows the peers of which `news` are. `None` where only a full run can do that.
    pub(super) fn update(
        &mut self,
        node: &Node,
        cluster: &mut Cluster,
        news: BTreeMap<NodeName, Option<Arc<Lease>>>,
    ) -> Option<Amended> {
        let now = self.now();
        self.upkeep.amend(&mut self.kernel, node, cluster, news, (&mut self.patience, now))
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}
