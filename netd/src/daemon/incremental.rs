//! An incremental run: follows some peers and repairs some places in the kernel, where that is all there is to do.

use std::time::Instant;

use super::Daemon;
use crate::reconcile::Trigger;
use crate::reconciler::Incremental;
use crate::status::run::{Run, Scope};

impl Daemon {
    /// What has caused the work that waits.
    pub(super) fn cause(&self) -> Trigger {
        if self.store.has_news() { Trigger::StoreChanged } else { Trigger::KernelChanged }
    }

    /// Runs, or requests a full run where that is needed.
    pub(super) fn incremental(&mut self) {
        if !self.store.has_news() && !self.kernel.reconciler.engine.is_dirty() {
            return;
        }
        let begun = Instant::now();
        let trigger = self.cause();
        let news = self.store.take_news();
        let (now, kernel) = (self.kernel.now(), &mut self.kernel.kernel);
        let done = self.kernel.reconciler.update(kernel, &self.node, &mut self.cluster, news, now);
        let Some(Incremental { report, deferred, nodes }) = done else {
            return self.schedule.request(trigger);
        };
        let took = begun.elapsed();
        self.reporter.throttle.log_incremental(trigger, report.applied, self.cluster.peers.len(), took);
        let Some(outcome) = self.kernel.reconciler.outcome() else { return };
        self.reporter.status.reconciled(&Run {
            trigger,
            took,
            scope: Scope::Peers(&nodes),
            node: &self.node,
            cluster: &self.cluster,
            outcome,
            report: &report,
            deferred: &deferred,
        });
    }
}
