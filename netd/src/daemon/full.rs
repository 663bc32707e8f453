//! A full run: reads, compares and changes everything, and says what came of it.

use std::time::Instant;

use dataplane::types::PerFamily;
use network::chain;
use network::model::Admission;
use network::state::FullRun;
use tokio::time::Instant as Deadline;

use super::Daemon;
use crate::problem::{Kind, Problem, Problems};
use crate::reconcile::{self, Deferred, Planned, ReconcileError, Report, RunKind, Trigger, problems};
use crate::status::run::Run;
use crate::store::Store;

impl<S: Store> Daemon<S> {
    /// `complaint` is what keeps the interface between nodes from being followed.
    pub(super) async fn reconcile(&mut self, trigger: Trigger, complaint: Option<Problem>) {
        let begun = Instant::now();
        let (mut planned, admission, unsaid) = match self.plan().await {
            Ok(planned) => planned,
            Err(error) => return self.give_up(trigger, begun, &error),
        };
        let rejected = admission.rejected();
        let (report, deferred, mut found) = self.carry_out(trigger, &mut planned);
        let is_troubled = complaint.is_some();
        found.extend(unsaid.into_iter().chain(problems::of_rejected(&rejected)));
        found.extend(complaint.into_iter().chain(self.switch.refused.clone()));
        self.tell_run(trigger, &report, begun.elapsed());
        let told = self.tell_own(&report, &planned.outcome).await;
        let took = begun.elapsed();
        let met = if told.is_ok() { self.meet().await } else { Ok(true) };
        let is_told = told.is_ok() && met.is_ok();
        found.extend(told.err());
        let published = match met {
            Ok(true) => self.publish(&report, &planned.outcome),
            Ok(false) => {
                // Pods wait until the ways are such as peers receive now.
                self.ask(Trigger::Startup);
                Ok(false)
            }
            Err(why) => Err(why),
        };
        let is_published = published.as_ref().is_ok_and(|is_published| *is_published);
        found.extend(published.err());
        let published = is_published;
        self.board.reconciled(&Run {
            trigger,
            took,
            only: None,
            node: &self.node,
            cluster: &self.cluster,
            rejected: &rejected,
            outcome: &planned.outcome,
            report: &report,
            problems: &found,
            deferred: &deferred,
            published,
        });
        let clean = report.is_clean() && published && !is_troubled;
        self.tell(found);
        self.go_on(planned, report, admission, clean);
        // A store that could not be written is tried again; nothing in the kernel waits for that.
        self.pace.ran(begun.elapsed(), clean && is_told, Deadline::now());
    }

    /// Plans, once the peers have been told by what this node is about to send and what they receive has been read after that;
    /// gives the nodes that are left out, and why peers could not be told.
    async fn plan(&mut self) -> Result<(Planned, Admission, Option<Problem>), ReconcileError> {
        loop {
            let admission = self.admit();
            let transition = self.switch.transition();
            let planned = reconcile::plan(&mut self.kernel, &self.node, &self.cluster, self.config.rules, transition)?;
            let told = self.cluster.own.ways.as_ref();
            let Some(ways) = told.and_then(|told| told.sending_too(&planned.outcome.advertised)) else {
                return Ok((planned, admission, None));
            };
            // Each time round there is one encapsulation more that they have been told.
            if let Err(why) = self.announce(ways).await {
                return Ok((planned, admission, Some(why)));
            }
        }
    }

    /// Takes in the nodes that the store knows and that can be believed.
    fn admit(&mut self) -> Admission {
        self.news.clear();
        let candidates = self.leases.values().cloned();
        let networks = &self.node.identity.networks;
        let (cluster, admission) = Admission::new(self.cluster.own.clone(), candidates, Some(&self.cluster), networks);
        self.cluster = cluster;
        admission
    }

    fn give_up(&mut self, trigger: Trigger, begun: Instant, error: &ReconcileError) {
        tracing::error!("{}", chain(error));
        let problem =
            Problem::new(Kind::CannotReconcile, "the network", format!("cannot be reconciled: {}", chain(error)));
        self.board.gave_up(trigger, begun.elapsed(), problem);
        self.reconciler.forget();
        self.pace.ran(begun.elapsed(), false, Deadline::now());
    }

    /// Does what is planned, but for what has to wait.
    fn carry_out(&mut self, trigger: Trigger, planned: &mut Planned) -> (Report, Deferred, Problems) {
        let Planned { plan, outcome, observed, .. } = planned;
        let remembered = self.switch.remember(&outcome.loosens);
        let pod_mtu = outcome.pod_mtu.unwrap_or(self.node.underlay.mtu);
        plan.ops.extend(self.bridge.repair(observed, &self.cluster.own.subnets, pod_mtu));
        if observed.links.get(&self.node.underlay.ifname).is_none_or(|link| !link.up) {
            self.reconciler.reset_backoff();
        }
        let (kind, now) = (RunKind { repairs: trigger.repairs(), full: true }, self.began.elapsed());
        let (report, deferred) =
            self.reconciler.run(&mut self.kernel, std::mem::take(plan), &outcome.desired, kind, now);
        let mut found = problems::of_run(&report, outcome);
        found.extend(problems::of_contested(&deferred).into_iter().chain(remembered.err()));
        (report, deferred, found)
    }

    /// The state of this run is kept true from here on.
    fn go_on(&mut self, planned: Planned, report: Report, admission: Admission, is_clean: bool) {
        let Planned { outcome, observed, peers, .. } = planned;
        if is_clean {
            // Nothing of ours is left there, and the network may be somebody else's by now.
            self.node.identity.former = PerFamily::none();
        }
        let full = FullRun { outcome, peers, admission, observed, conflicts: report.conflicts, is_clean };
        let follows_routes = self.config.underlay.can_reach.is_some();
        self.reconciler.adopt(full, &self.node, self.kernel.nft_port(), follows_routes);
        if let Some(filter) = self.reconciler.subscription() {
            self.monitor.set_filter(self.subscription, filter);
        }
        self.quiet = self.look();
    }
}
