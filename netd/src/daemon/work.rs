//! One step of the daemon's work: hear the kernel, then do what there is to do, the least that answers it.
//!
//! Answers here what concerns some places only; the rest is a full run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dataplane::monitor::Event;
use network::model::{Lease, NodeName};
use network::{chain, observe};
use tokio::time::Instant as Deadline;

use super::Daemon;
use super::pace::Due;
use crate::problem::Problems;
use crate::reconcile::Trigger;
use crate::status::run::Run;
use crate::store::Store;
use crate::upkeep::Amended;

/// How many notifications are read at once, and how often in a row: then the others get their turn.
const AT_ONCE: usize = 4096;
const ROUNDS: usize = 16;

impl<S: Store> Daemon<S> {
    /// When there is something to do even though nothing is told.
    pub(super) fn next(&self) -> Deadline {
        let now = Deadline::now();
        let held = self.patience.next().map(|next| self.began + next);
        let next =
            [self.switch.next(), held, self.untold.next()].into_iter().flatten().fold(self.pace.next(), Deadline::min);
        match self.asked {
            _ if self.behind => now,
            Some(trigger) if rests(trigger) => next.min(self.pace.rest()),
            Some(_) => now,
            None if self.upkeep.is_stirred() || !self.news.is_empty() => now,
            None => next,
        }
    }

    /// Asks for a full run. Who cannot wait comes first.
    pub(super) fn ask(&mut self, trigger: Trigger) {
        if self.asked.is_none_or(|asked| rests(asked) && !rests(trigger)) {
            self.asked = Some(trigger);
        }
    }

    pub(super) async fn work(&mut self) {
        self.hear();
        let now = Deadline::now();
        match self.pace.due(now) {
            Some(Due::Full) => self.ask(Trigger::Periodic),
            Some(Due::Retry) => self.ask(Trigger::Retry),
            Some(Due::Look) if self.looks_different() => self.ask(Trigger::Periodic),
            Some(Due::Look) | None => {}
        }
        if self.upkeep.take_tuned() && self.is_detuned() {
            self.ask(Trigger::KernelChanged);
        }
        if self.switch.next().is_some_and(|at| at <= now) {
            self.close_ways(now).await;
        }
        if self.patience.next().is_some_and(|next| self.began + next <= now) {
            self.ask(Trigger::Retry);
        }
        if self.untold.next().is_some_and(|at| at <= now) {
            self.tell_rest();
        }
        if self.upkeep.needs_whole() {
            self.ask(self.cause());
        }
        // What is asked for may have to wait for its time; what can be done does not. Whoever is behind does not know how
        // the kernel is now.
        if !self.behind && self.asked.is_none_or(|_| self.upkeep.is_sound()) {
            self.amend();
        }
        if let Some(trigger) = self.asked
            && (!rests(trigger) || self.pace.rest() <= Deadline::now())
        {
            self.asked = None;
            // What has been told up to here is in what is read now, of the underlay too.
            self.hear();
            let (has_moved, complaint) = self.follow_underlay().await;
            let trigger = if has_moved && trigger.repairs() { Trigger::UnderlayChanged } else { trigger };
            self.reconcile(trigger, complaint).await;
        }
    }

    /// Takes what the kernel has told since.
    fn hear(&mut self) {
        self.behind = false;
        for _ in 0..ROUNDS {
            match self.monitor.receive(AT_ONCE) {
                Ok(false) => return,
                Ok(true) => {
                    let events = self.monitor.take(self.subscription);
                    let subnets = &self.cluster.own.subnets;
                    let lost = events.iter().filter(|event| self.bridge.hear(event, subnets)).count();
                    self.upkeep.hear(events);
                    if lost > 0 {
                        self.ask(Trigger::KernelChanged);
                    }
                }
                Err(error) => {
                    tracing::error!("the kernel's changes cannot be followed, only compared: {}", chain(&error));
                    return self.upkeep.hear(vec![Event::Overrun]);
                }
            }
        }
        self.behind = true;
    }

    /// True where something that nobody tells of is not as it was after the last full run.
    fn looks_different(&mut self) -> bool {
        let is_gone = |path: &std::path::Path| matches!(path.try_exists(), Ok(false));
        let conflist = self.config.cni.conf_path();
        if self.written.is_some() && (is_gone(&self.config.subnet_file) || conflist.is_some_and(|path| is_gone(&path)))
        {
            self.written = None;
            return true;
        }
        let quiet = self.look();
        quiet != self.quiet
    }

    /// True where sysctls are not as wanted, or as the last full run left them. What it left may have been changed by then.
    fn is_detuned(&mut self) -> bool {
        let Some(outcome) = self.upkeep.outcome() else { return false };
        let desired = &outcome.desired;
        let sysctls = observe::sysctls(&mut self.kernel, desired, &self.node.underlay.ifname);
        let is_wanted = |(key, value)| sysctls.get(key).is_some_and(|there| there.as_ref() == Some(value));
        !desired.sysctls.iter().all(is_wanted) || self.quiet.as_ref().is_some_and(|quiet| quiet.sysctls != sysctls)
    }

    pub(super) fn look(&mut self) -> Option<observe::Quiet> {
        let desired = &self.upkeep.outcome()?.desired;
        observe::quiet(&mut self.kernel, &self.node.identity, desired, &self.node.underlay.ifname).ok()
    }

    /// Who has brought what there is to do.
    fn cause(&self) -> Trigger {
        if self.news.is_empty() { Trigger::KernelChanged } else { Trigger::StoreChanged }
    }

    /// Answers what was told of some peers and of some places in the kernel, where that is all there is to do.
    fn amend(&mut self) {
        if self.news.is_empty() && !self.upkeep.is_stirred() {
            return;
        }
        let begun = Instant::now();
        let trigger = self.cause();
        let told = std::mem::take(&mut self.news).into_iter();
        let told: BTreeMap<NodeName, Option<Arc<Lease>>> =
            told.map(|node| (node.clone(), self.leases.get(&node).cloned())).collect();
        let patience = (&mut self.patience, self.began.elapsed());
        let amended = self.upkeep.amend(&mut self.kernel, &self.node, &mut self.cluster, told, patience);
        let Some(Amended { report, held, nodes }) = amended else {
            return self.ask(trigger);
        };
        let took = begun.elapsed();
        self.tell_amended(trigger, report.applied, took);
        let Some(outcome) = self.upkeep.outcome() else { return };
        let (node, cluster, only) = (&self.node, &self.cluster, Some(nodes.as_slice()));
        let published = self.board.is_ready();
        self.board.reconciled(&Run {
            trigger,
            took,
            only,
            node,
            cluster,
            rejected: &[],
            outcome,
            report: &report,
            problems: &Problems::new(),
            held: &held,
            published,
        });
    }
}

/// True for triggers that come in storms.
fn rests(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::StoreChanged | Trigger::KernelChanged)
}
