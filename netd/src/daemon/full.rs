//! A full run: reads, compares and changes everything, and says what came of it.

use std::sync::Arc;
use std::time::Instant;

use dataplane::types::PerFamily;
use network::chain;
use network::model::{Cluster, Lease, Rejected};
use network::patience::{Held, Occasion};
use tokio::time::Instant as Deadline;

use super::Daemon;
use crate::problem::{Kind, Problem, Problems};
use crate::reconcile::{self, Planned, ReconcileError, Report, Trigger, problems};
use crate::status::run::Run;
use crate::store::Store;
use crate::upkeep::{Found, Upkeep};

impl<S: Store> Daemon<S> {
    /// `complaint` is what keeps the interface between nodes from being followed.
    pub(super) async fn reconcile(&mut self, trigger: Trigger, complaint: Option<Problem>) {
        let begun = Instant::now();
        let (mut planned, rejected, unsaid) = match self.plan().await {
            Ok(planned) => planned,
            Err(error) => return self.give_up(trigger, begun, &error),
        };
        let (report, held, mut found) = self.carry_out(trigger, &mut planned);
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
            held: &held,
            published,
        });
        let clean = report.is_clean() && published && !is_troubled;
        self.tell(found);
        self.go_on(planned, &report, &rejected, clean);
        // A store that could not be written is tried again; nothing in the kernel waits for that.
        self.pace.ran(begun.elapsed(), clean && is_told, Deadline::now());
    }

    /// Plans, once the peers have been told by what this node is about to send and what they receive has been read after that;
    /// gives the nodes that are left out, and why peers could not be told.
    async fn plan(&mut self) -> Result<(Planned, Vec<Rejected>, Option<Problem>), ReconcileError> {
        loop {
            let rejected = self.admit();
            let transition = self.switch.transition();
            let planned = reconcile::plan(&mut self.kernel, &self.node, &self.cluster, self.config.rules, transition)?;
            let told = self.cluster.own.encapsulations.as_ref();
            let Some(encapsulations) = told.and_then(|told| told.sending_too(&planned.outcome.advertised)) else {
                return Ok((planned, rejected, None));
            };
            // Each time round there is one encapsulation more that they have been told.
            if let Err(why) = self.announce(encapsulations).await {
                return Ok((planned, rejected, Some(why)));
            }
        }
    }

    /// Takes in the nodes that the store knows; gives those that are left out.
    fn admit(&mut self) -> Vec<Rejected> {
        self.news.clear();
        let candidates = self.leases.values().cloned();
        let networks = &self.node.identity.networks;
        let (cluster, rejected) = Cluster::admit(self.cluster.own.clone(), candidates, Some(&self.cluster), networks);
        self.cluster = cluster;
        rejected
    }

    fn give_up(&mut self, trigger: Trigger, begun: Instant, error: &ReconcileError) {
        tracing::error!("{}", chain(error));
        let problem =
            Problem::new(Kind::CannotReconcile, "the network", format!("cannot be reconciled: {}", chain(error)));
        self.board.gave_up(trigger, begun.elapsed(), problem);
        self.upkeep = Upkeep::default();
        self.pace.ran(begun.elapsed(), false, Deadline::now());
    }

    /// Does what is planned, but for what has to wait.
    fn carry_out(&mut self, trigger: Trigger, planned: &mut Planned) -> (Report, Held, Problems) {
        let Planned { plan, outcome, observed, .. } = planned;
        let remembered = self.switch.remember(&outcome.relaxes);
        let pod_mtu = outcome.pod_mtu.unwrap_or(self.node.underlay.mtu);
        plan.ops.extend(self.bridge.mend(observed, &self.cluster.own.subnets, pod_mtu));
        if observed.links.get(&self.node.underlay.ifname).is_none_or(|link| !link.up) {
            self.patience.excuse();
        }
        let (occasion, now) = (Occasion { repairs: trigger.repairs(), full: true }, self.began.elapsed());
        let held = self.patience.hold(plan, &outcome.desired, occasion, now);
        let report = reconcile::apply(&mut self.kernel, std::mem::take(plan));
        self.patience.refused(report.failed.iter().map(|(op, _)| op), &outcome.desired, now);
        let mut found = problems::of_run(&report, outcome);
        found.extend(problems::of_contested(&held).into_iter().chain(remembered.err()));
        (report, held, found)
    }

    /// What was found and wanted is kept true from here on.
    fn go_on(&mut self, planned: Planned, report: &Report, rejected: &[Rejected], clean: bool) {
        let Planned { outcome, observed, ground, .. } = planned;
        let is_left_out = |lease: &&Arc<Lease>| rejected.iter().any(|peer| peer.node == lease.node);
        let left_out: Vec<Arc<Lease>> = self.leases.values().filter(is_left_out).cloned().collect();
        let taken = report.taken();
        // A device that cannot be made leaves more open than some places.
        let whole = clean && taken.len() == report.conflicts.len();
        if clean {
            // Nothing of ours is left there, and the network may be somebody else's by now.
            self.node.identity.former = PerFamily::none();
        }
        let found = Found { outcome, observed, ground, left_out, taken, clean: whole };
        let follows_routes = self.config.underlay.can_reach.is_some();
        self.upkeep.begin(found, &self.cluster, &self.node, self.kernel.nft_port(), follows_routes);
        if let Some(filter) = self.upkeep.filter() {
            self.monitor.set_filter(self.subscription, filter);
        }
        self.quiet = self.look();
    }
}
