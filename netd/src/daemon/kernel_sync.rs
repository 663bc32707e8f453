//! The kernel's side of the daemon: the connection, the notifications, and the engine that keeps what netd owns as desired.

use std::time::Duration;

use dataplane::kernel::Linux;
use dataplane::monitor::{AsyncMonitor, Event, Filter, Subscription};
use network::observe::{Host, PolledState};
use network::overlay::Outcome;
use network::state::FullRun;
use network::{chain, observe};
use tokio::time::Instant;

use super::Daemon;
use crate::bridge::{BridgeWatch, Memory};
use crate::diversion::{self, Diversion};
use crate::problem::{Kind, Problem};
use crate::reconcile::{self, Deferred, Planned, ReconcileError, Report, RunKind, Trigger};
use crate::reconciler::Reconciler;

/// How many notifications are read at once, and how often in a row, some milliseconds in all: then the store and the publisher get their
/// turn. After a start, thousands wait that this daemon has caused itself.
const AT_ONCE: usize = 1024;
const ROUNDS: usize = 2;

/// The kernel and the engine.
pub(super) struct KernelSync {
    pub(super) kernel: Linux,
    pub(super) monitor: AsyncMonitor,
    subscription: Subscription,
    /// Notifications wait that have not been read: what the kernel has now is not known.
    pub(super) is_behind: bool,
    pub(super) reconciler: Reconciler,
    bridge: BridgeWatch,
    /// What no notification reports, as the last full run left it.
    polled: Option<PolledState>,
    /// The policy rules that the last full run has found to divert packets to pods.
    diversions: Vec<Diversion>,
    /// Policy rules have come or gone since.
    pub(super) rules_changed: bool,
    /// What times are counted from.
    epoch: Instant,
}

impl KernelSync {
    pub(super) fn new(kernel: Linux, mut monitor: AsyncMonitor, bridge: BridgeWatch, epoch: Instant) -> Self {
        let subscription = monitor.subscribe(Filter::all());
        let reconciler = Reconciler::default();
        Self {
            kernel,
            monitor,
            subscription,
            is_behind: false,
            reconciler,
            bridge,
            polled: None,
            diversions: Vec::new(),
            rules_changed: false,
            epoch,
        }
    }

    /// When an object that something else changes again and again is repaired next.
    pub(super) fn next_repair(&self) -> Option<Instant> {
        self.reconciler.engine.next_repair().map(|next| self.epoch + next)
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

impl Daemon {
    /// Takes the notifications that wait.
    pub(super) fn receive(&mut self) {
        let kernel = &mut self.kernel;
        kernel.is_behind = false;
        for _ in 0..ROUNDS {
            match kernel.monitor.receive(AT_ONCE) {
                Ok(false) => return,
                Ok(true) => {
                    let events = kernel.monitor.take(kernel.subscription);
                    for event in &events {
                        kernel.bridge.notify(event, &self.cluster.own.subnets);
                        kernel.rules_changed |= *event == Event::Rules;
                    }
                    kernel.reconciler.notify(events);
                }
                Err(error) => {
                    tracing::error!("the kernel's changes cannot be followed, only compared: {}", chain(&error));
                    kernel.reconciler.notify(vec![Event::Overrun]);
                    return;
                }
            }
        }
        kernel.is_behind = true;
    }

    /// True where sysctls were written since the last call, and are not as desired or as the last full run left them.
    pub(super) fn sysctls_differ(&mut self) -> bool {
        let kernel = &mut self.kernel;
        let Some(state) = &mut kernel.reconciler.state else { return false };
        if !state.take_sysctls_changed() {
            return false;
        }
        let desired = &state.outcome().desired;
        let sysctls = observe::sysctls(&mut kernel.kernel, desired, &self.node.underlay.ifname);
        let is_desired = |(key, value)| sysctls.get(key).is_some_and(|there| there.as_ref() == Some(value));
        !desired.sysctls.iter().all(is_desired)
            || kernel.polled.as_ref().is_some_and(|polled| polled.sysctls != sysctls)
    }

    /// True where something that no notification reports is not as the last full run left it.
    pub(super) fn polled_state_differs(&mut self) -> bool {
        self.plugin.are_gone(&self.config) || self.poll() != self.kernel.polled || self.diversions_differ()
    }

    /// True where the policy rules that divert packets to pods are not those that the last full run has found. The kernel notifies of rules
    /// ([`KernelSync::rules_changed`]); notifications of routes in a VPN's table are not wanted.
    pub(super) fn diversions_differ(&mut self) -> bool {
        let kernel = &mut self.kernel;
        kernel.rules_changed = false;
        let Some(outcome) = kernel.reconciler.outcome() else { return false };
        let networks = &self.node.identity.networks;
        diversion::find(kernel.kernel.socket(), networks, &self.cluster, outcome) != kernel.diversions
    }

    /// The policy rules that divert packets to pods, as a full run finds them.
    pub(super) fn look_for_diversions(&mut self, outcome: &Outcome) -> &[Diversion] {
        let kernel = &mut self.kernel;
        kernel.rules_changed = false;
        let networks = &self.node.identity.networks;
        kernel.diversions = diversion::find(kernel.kernel.socket(), networks, &self.cluster, outcome);
        &kernel.diversions
    }

    fn poll(&mut self) -> Option<PolledState> {
        let desired = &self.kernel.reconciler.outcome()?.desired;
        let underlay = &self.node.underlay.ifname;
        observe::polled_state(&mut self.kernel.kernel, &self.node.identity, desired, underlay).ok()
    }

    /// Compares all that netd owns with what is desired.
    ///
    /// # Errors
    /// Where the kernel cannot be read, or the network cannot be carried.
    pub(super) fn plan(&mut self, host: Host) -> Result<Planned, ReconcileError> {
        let transition = self.transition();
        let (node, cluster, kernel) = (&self.node, &self.cluster, &mut self.kernel);
        let memory = kernel.bridge.memory.clone();
        let planned = reconcile::plan(&mut kernel.kernel, host, node, cluster, self.config.rules, &transition, memory)?;
        kernel.bridge.memory.clone_from(&planned.memory);
        Ok(planned)
    }

    /// Writes down what is remembered of the pods' bridge, for the next start.
    ///
    /// # Errors
    /// Where that cannot be written, for a person.
    pub(super) fn remember_bridge(&self) -> Result<(), Problem> {
        let file = &self.config.subnet_file;
        let unwritten =
            self.kernel.bridge.memory.as_ref().filter(|memory| Memory::read(file).as_ref() != Some(*memory));
        unwritten.map_or(Ok(()), |memory| memory.write(file)).map_err(|error| {
            let detail = format!("cannot be written, so a restart would not know the pods' bridge: {error}");
            Problem::new(Kind::FileNotWritten, Memory::file(file).display().to_string(), detail)
        })
    }

    /// Applies a plan, but for the repairs that have to wait.
    pub(super) fn apply(&mut self, trigger: Trigger, planned: &mut Planned) -> (Report, Deferred) {
        let Planned { plan, outcome, observed, .. } = planned;
        let kernel = &mut self.kernel;
        if observed.links.get(&self.node.underlay.ifname).is_none_or(|link| !link.up) {
            kernel.reconciler.engine.reset_backoff();
        }
        let (kind, now) = (RunKind { repairs: trigger.repairs(), full: true }, kernel.now());
        let plan = std::mem::take(plan);
        let carry_out = |ops: &[_]| reconcile::carry_out(&mut kernel.kernel, ops);
        kernel.reconciler.engine.run(&outcome.desired, plan.ops, plan.conflicts, (kind, now), carry_out)
    }

    /// Keeps the state of a full run true from here on.
    pub(super) fn keep(&mut self, full: FullRun) {
        let follows_routes = self.config.underlay.can_reach.is_some();
        let kernel = &mut self.kernel;
        kernel.reconciler.adopt(full, &self.node, kernel.kernel.nft_port(), follows_routes);
        if let Some(state) = &kernel.reconciler.state {
            kernel.monitor.set_filter(kernel.subscription, state.subscription());
        }
        self.kernel.polled = self.poll();
    }
}
