//! The daemon's loop: waits for the store, the kernel, the publisher or the clock, then does the least that answers it.
//!
//! Nothing but that wait is awaited: no request to a store holds up a repair.

use std::pin::Pin;

use network::chain;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{Instant, sleep_until};

use super::Daemon;
use super::backend_transition::RefusedConf;
use super::publisher::Answer;
use crate::node;
use crate::problem::{Kind, Problem};
use crate::reconcile::{Trigger, problems};
use crate::store::{Notice, StoreEvent};

impl Daemon {
    /// Runs until a signal ends the daemon.
    pub(super) async fn run(
        &mut self,
        mut events: mpsc::Receiver<StoreEvent>,
        mut ended: Pin<&mut impl Future<Output = ()>>,
    ) {
        loop {
            if self.kernel.is_behind {
                // A wait that is over at once gives no other task its turn.
                task::yield_now().await;
            }
            let (listed, next) = (self.store.is_listed, self.next());
            tokio::select! {
                () = &mut ended => return,
                event = events.recv() => {
                    let Some(event) = event else {
                        tracing::error!("the store sends no more events; ending so that a restart can follow it again");
                        return;
                    };
                    self.take_events(event, &mut events);
                }
                answer = self.lease.publisher.answer() => self.take_answer(answer, &mut events),
                () = self.kernel.monitor.changed(), if listed => {}
                () = sleep_until(next), if listed => {}
            }
            if self.store.is_listed {
                self.work();
                self.publish();
            }
        }
    }

    /// When there is something to do even though nothing happens.
    fn next(&self) -> Instant {
        let now = Instant::now();
        let has_work = self.kernel.reconciler.engine.is_dirty() || self.store.has_news();
        if self.kernel.is_behind || has_work && self.schedule.requested.is_none() {
            return now;
        }
        let others = [self.kernel.next_repair(), self.lease.next(), self.reporter.throttle.next()];
        others.into_iter().flatten().fold(self.schedule.next(now), Instant::min)
    }

    /// Repairs and follows, by incremental runs where they suffice.
    fn work(&mut self) {
        self.receive();
        let now = Instant::now();
        if self.schedule.tick(now) && self.polled_state_differs() {
            self.schedule.request(Trigger::Periodic);
        }
        if self.sysctls_differ() || self.kernel.rules_changed && self.diversions_differ() {
            self.schedule.request(Trigger::KernelChanged);
        }
        if self.kernel.next_repair().is_some_and(|at| at <= now) {
            self.schedule.request(Trigger::Retry);
        }
        if self.reporter.throttle.next().is_some_and(|at| at <= now) {
            self.reporter.throttle.flush(self.cluster.peers.len());
        }
        if self.kernel.reconciler.engine.needs_full() {
            self.schedule.request(self.cause());
        }
        // Incremental work runs now; a full run may wait for the rate limit. While notifications wait, the kernel's state is unknown.
        if !self.kernel.is_behind
            && (self.schedule.requested.is_none() || self.kernel.reconciler.engine.is_incremental())
        {
            self.incremental();
        }
        if let Some(trigger) = self.schedule.take_request(Instant::now()) {
            // The run reads what has changed up to here, the underlay too.
            self.receive();
            self.reconsider();
            self.full_reconcile(trigger);
        }
    }

    /// Asks the publisher for what is to be done next, and reports what keeps it from being done.
    fn publish(&mut self) {
        let stored = self.store.leases.get(&self.node.name).map(|lease| self.node.own(lease));
        if self.lease.proceed(stored.as_ref(), &self.node.conf, &mut self.store) {
            self.follow_advertisement();
        }
        let is_taken = self.lease.condition.is_name_taken();
        if self.reporter.set_lease_problems(&self.lease.condition.problems) && !is_taken {
            self.schedule.request(Trigger::StoreChanged);
        }
    }

    /// This node's lease says in plans all that peers may have read.
    fn follow_advertisement(&mut self) {
        self.cluster.own.encapsulations = self.lease.advertisement.support();
    }

    /// Takes an answer of the publisher, after the events that were sent before it.
    fn take_answer(&mut self, answer: Answer, events: &mut mpsc::Receiver<StoreEvent>) {
        if let Ok(event) = events.try_recv() {
            self.take_events(event, events);
        }
        let pending = self.store.has_news() || self.schedule.requested.is_some();
        let trigger = self.lease.answered(answer, &mut self.store, pending);
        self.follow_advertisement();
        if let Some(trigger) = trigger {
            self.schedule.request(trigger);
        }
        if let Some(outcome) = self.kernel.reconciler.outcome().filter(|_| !self.plugin.are_ready) {
            match self.write_plugin_files(outcome.pod_mtu) {
                // Ready, unless the last run failed somewhere.
                Ok(true) => self.reporter.status.update(|status, _| {
                    status.daemon.ready = status.last_reconcile.as_ref().is_some_and(|run| run.failed == 0);
                }),
                Ok(false) => {}
                // A full run tries again, and reports it.
                Err(_) => self.schedule.request(Trigger::Retry),
            }
        }
    }

    /// Takes an event and all that wait behind it.
    fn take_events(&mut self, first: StoreEvent, events: &mut mpsc::Receiver<StoreEvent>) {
        let mut taken = vec![first];
        taken.extend(std::iter::from_fn(|| events.try_recv().ok()));
        self.reporter.status.record_events(&taken);
        let has_faults = taken.iter().any(|event| matches!(event, StoreEvent::Fault(..)));
        for event in taken {
            self.take_event(event);
        }
        if has_faults {
            self.reporter.set_store_problems(problems::of_faults(&self.store.faults));
        }
    }

    fn take_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Init => self.store.begin_list(),
            StoreEvent::Lease(lease) => {
                if lease.node == self.node.name {
                    self.lease.take_event();
                }
                self.store.insert(lease);
            }
            StoreEvent::InitDone => {
                self.lease.take_event();
                if self.store.end_list() {
                    self.schedule.request(Trigger::Startup);
                }
            }
            StoreEvent::Removed(node) => {
                if node == self.node.name {
                    self.lease.take_event();
                }
                self.store.remove(node, &self.node.name);
            }
            StoreEvent::Fault(record, Some(fault)) => drop(self.store.faults.insert(record, fault)),
            StoreEvent::Fault(record, None) => drop(self.store.faults.remove(&record)),
            StoreEvent::NetConf(text) => {
                if self.reconfigure(&text) {
                    self.kernel.reconciler.forget();
                    self.schedule.request(Trigger::StoreChanged);
                }
            }
            StoreEvent::Unavailable(what) => tracing::warn!("{what}; the network stays as it was last known"),
            StoreEvent::Available => {
                tracing::info!("the store can be followed again");
                self.lease.retry = None;
            }
        }
    }

    /// Tries a configuration again that was refused: the interface between nodes may have had no address then.
    fn reconsider(&mut self) {
        let text = self.transition.refused.as_ref().map(|refused| refused.text.clone());
        if text.is_some_and(|text| self.reconfigure(&text)) {
            self.kernel.reconciler.forget();
        }
    }

    /// Takes a changed configuration without a restart; true where a full run is needed. A configuration that cannot be taken is
    /// reported, and the network stays as it is.
    fn reconfigure(&mut self, text: &str) -> bool {
        let former = self.node.conf.clone();
        match self.node.reconfigure(text, &self.config.underlay, &mut self.kernel.kernel) {
            Ok(changed) => {
                let refused = self.transition.refused.take();
                let was_refused = refused.is_some();
                if let Some(refused) = refused {
                    self.lease.publisher.notify(Notice::Resolved(refused.problem));
                }
                if !changed {
                    return was_refused;
                }
            }
            Err(error) => {
                let detail = format!("is refused, the network stays as it is: {}", chain(&error));
                let problem = Problem::new(Kind::InvalidConfiguration, "the changed network configuration", detail);
                let refused = self.transition.refused.as_ref();
                if !refused.is_some_and(|refused| refused.problem.says_the_same_as(&problem)) {
                    self.lease.publisher.notify(Notice::Problem(problem.clone()));
                }
                self.transition.refused = Some(RefusedConf { text: text.to_owned(), problem });
                return true;
            }
        }
        tracing::info!(from = ?former.backend, to = ?self.node.conf.backend, "the network configuration has changed");
        // Links are read again by the full run; without them the addresses in the lease count.
        let links = node::links(&mut self.kernel.kernel).unwrap_or_default();
        let elsewhere = self.lease.request.elsewhere.clone();
        let request = self.node.request(&links, elsewhere, Some(&self.cluster.own), &self.config.subnet_file);
        let own = &mut self.cluster.own;
        own.backend = request.backend.clone();
        own.data = request.data.map(|family, request| request.data(own.data.get(family)));
        self.lease.request = request;
        true
    }
}
