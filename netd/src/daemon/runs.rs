//! The runs. A full run reads, compares and repairs everything, and reports what came of it. An incremental run follows some peers and
//! repairs some places in the kernel, where that is all there is to do.

use std::time::Instant;

use dataplane::netlink::KernelError;
use dataplane::types::{Mtu, PerFamily};
use network::chain;
use network::model::Admission;
use network::observe::{self, Host};
use network::overlay::transition::Transition;
use network::state::FullRun;
use tokio::time::Instant as Deadline;

use super::{Daemon, logging};
use crate::accept_ra;
use crate::diversion::Diversion;
use crate::problem::{Kind, Problem};
use crate::reconcile::{self, Planned, ReconcileError, Trigger, problems};
use crate::reconciler::Incremental;
use crate::service_manager;
use crate::status::run::{Run, Scope};
use crate::store::Notice;
use crate::subnet_env::SubnetEnv;

impl Daemon {
    /// Repairs everything. Routes that this node may not use before it has published them wait; everything else does not.
    pub(super) fn full_reconcile(&mut self, trigger: Trigger) {
        let begun = Instant::now();
        // A run that fails is tried again later, for all nodes.
        self.store.take_news();
        let host = match observe::host(&mut self.kernel.kernel, &self.node.identity) {
            Ok(host) => host,
            Err(error) => return self.give_up(trigger, begun, &error.into()),
        };
        let (has_moved, underlay_problem) = self.follow_underlay(&host);
        let trigger = if has_moved && trigger.repairs() { Trigger::UnderlayChanged } else { trigger };
        let admission = self.admit(&host).map_err(ReconcileError::from);
        let (admission, mut planned) = match admission.and_then(|admission| Ok((admission, self.plan(host)?))) {
            Ok(planned) => planned,
            Err(error) => return self.give_up(trigger, begun, &error),
        };
        let rejected = admission.rejected();
        let remembered = self.transition.remember(&planned.outcome.relaxes).and(self.remember_bridge());
        let noted = accept_ra::remember(&self.config.subnet_file, &planned.plan.ops);
        let (report, deferred) = self.apply(trigger, &mut planned);
        logging::log_full(trigger, &report, self.cluster.peers.len(), begun.elapsed());
        let restored = if planned.outcome.one_way && report.is_clean() { self.transition.forget() } else { Ok(()) };
        if report.is_ready {
            self.lease.want(&self.cluster.own, &planned.outcome, !report.is_clean());
        }
        let took = begun.elapsed();
        self.plugin.network_ready = report.is_ready;
        let written = self.write_plugin_files(planned.outcome.pod_mtu);
        let clean = report.is_clean() && underlay_problem.is_none() && written.is_ok();
        let refused = self.transition.refused.as_ref().map(|refused| refused.problem.clone());
        let mut found = problems::of_run(&report, &planned.outcome, &self.cluster.peers);
        found.extend(problems::of_contested(&deferred).into_iter().chain(problems::of_rejected(&rejected)));
        found.extend(self.look_for_diversions(&planned.outcome).iter().map(Diversion::problem));
        found.extend(underlay_problem.into_iter().chain(refused));
        found.extend([remembered, noted, restored].into_iter().filter_map(Result::err));
        let published = written.as_ref().is_ok_and(|is_written| *is_written);
        found.extend(written.err());
        let problems = self.reporter.set_run_problems(found).clone();
        self.reporter.status.reconciled(&Run {
            trigger,
            took,
            scope: Scope::Full { rejected: &rejected, problems: &problems, published },
            node: &self.node,
            cluster: &self.cluster,
            outcome: &planned.outcome,
            report: &report,
            deferred: &deferred,
        });
        if clean {
            // Nothing of ours is left there, and the network may be somebody else's by now.
            self.node.identity.former = PerFamily::none();
        }
        let Planned { outcome, observed, peers, .. } = planned;
        let unmade = problems::unmade(&report);
        self.keep(FullRun {
            outcome,
            peers,
            admission,
            observed,
            conflicts: report.conflicts,
            unmade,
            is_clean: clean,
        });
        self.schedule.ran(begun.elapsed(), clean, Deadline::now());
    }

    /// Takes in the nodes that the store has and that can be believed.
    fn admit(&mut self, host: &Host) -> Result<Admission, KernelError> {
        let leases: Vec<_> = self.store.leases.values().cloned().collect();
        let (kernel, own) = (&mut self.kernel.kernel, self.cluster.own.clone());
        let previous = Some(&self.cluster).filter(|cluster| !cluster.peers.is_empty());
        let (cluster, admission) = reconcile::admit(kernel, &self.node, host, own, &leases, previous)?;
        self.cluster = cluster;
        Ok(admission)
    }

    pub(super) fn transition(&self) -> Transition {
        let advertisement = &self.lease.advertisement;
        Transition {
            draining: advertisement.draining(),
            relaxed_rp_filter: self.transition.relaxed.clone(),
            may_send: advertisement.may_send.clone(),
            ..Transition::default()
        }
    }

    fn give_up(&mut self, trigger: Trigger, begun: Instant, error: &ReconcileError) {
        tracing::error!("{}", chain(error));
        let detail = format!("cannot be reconciled: {}", chain(error));
        let problem = Problem::new(Kind::CannotReconcile, "the network", detail);
        self.reporter.status.gave_up(trigger, begun.elapsed(), problem);
        self.kernel.reconciler.forget();
        self.schedule.ran(begun.elapsed(), false, Deadline::now());
    }

    /// Looks again at the interface that carries the network. True where something about it has changed, and why it cannot be used,
    /// where that is so: then the network stays as it was.
    fn follow_underlay(&mut self, host: &Host) -> (bool, Option<Problem>) {
        match self.node.follow_underlay(&self.config.underlay, host, &mut self.kernel.kernel) {
            Ok(false) => return (false, None),
            Ok(true) => {}
            Err(error) => {
                let detail = format!("cannot be followed, the network stays as it was: {}", chain(&error));
                return (false, Some(Problem::new(Kind::UnderlayUnusable, "the interface between nodes", detail)));
            }
        }
        let underlay = &self.node.underlay;
        tracing::info!(interface = %underlay.ifname, mtu = %underlay.mtu, "the interface between nodes has changed");
        // The run publishes the address.
        self.cluster.own.public = underlay.public;
        self.lease.request.public = underlay.public;
        (true, None)
    }

    /// Writes what the plugin reads, once the network is ready and peers know this node, and whenever it changes. True where the files
    /// are as they should be.
    ///
    /// # Errors
    /// Where they cannot be written, for a person.
    pub(super) fn write_plugin_files(&mut self, pod_mtu: Option<Mtu>) -> Result<bool, Problem> {
        let may_begin = self.plugin.network_ready && self.lease.advertisement.may_have_pods();
        if !self.plugin.are_ready && !may_begin {
            return Ok(false);
        }
        let env = SubnetEnv {
            networks: self.node.identity.networks,
            subnets: self.cluster.own.subnets,
            mtu: pod_mtu.unwrap_or(self.node.underlay.mtu),
            ip_masq: self.config.rules.ip_masq,
        };
        if self.plugin.write(&self.config, env)? {
            tracing::info!(peers = self.cluster.peers.len(), "ready");
            self.lease.publisher.notify(Notice::Ready);
            service_manager::notify("READY=1");
        }
        Ok(true)
    }

    /// What has caused the work that waits.
    pub(super) fn cause(&self) -> Trigger {
        if self.store.has_news() { Trigger::StoreChanged } else { Trigger::KernelChanged }
    }

    /// Follows some peers and repairs some places in the kernel, or requests a full run where only that can.
    pub(super) fn incremental(&mut self) {
        if !self.store.has_news() && !self.kernel.reconciler.engine.is_dirty() {
            return;
        }
        let begun = Instant::now();
        let trigger = self.cause();
        let news = self.store.take_news();
        let (now, kernel) = (self.kernel.now(), &mut self.kernel.kernel);
        let done = self.kernel.reconciler.update(kernel, &mut self.cluster, news, now);
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
