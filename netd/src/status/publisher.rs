//! The daemon publishes its status here; the listeners read it.
//!
//! Holds the status and the counters, and notifies subscribers of each change. Decides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::clock_steps::ClockReading;
use super::metrics::Metrics;
use super::run::Run;
use super::{ProxyState, ProxyStatus, Status, StoreTrouble};
use crate::clock;
use crate::problem::{Problem, Problems};
use crate::reconcile::Trigger;
use crate::store::StoreEvent;

/// Publishes the status. Clones share it.
#[derive(Debug, Clone)]
pub struct StatusPublisher {
    status: watch::Sender<Status>,
    metrics: Arc<Metrics>,
    started: Instant,
    /// The last reading.
    clocks: Arc<Mutex<ClockReading>>,
}

impl Default for StatusPublisher {
    /// For a netd that starts now.
    fn default() -> Self {
        let (wall, monotonic) = (clock::now(), Duration::ZERO);
        Self {
            status: watch::Sender::new(Status::new(wall)),
            metrics: Arc::default(),
            started: Instant::now(),
            clocks: Arc::new(Mutex::new(ClockReading { wall, monotonic })),
        }
    }
}

impl StatusPublisher {
    /// Reads the clocks. If the wall clock was set, the timestamps in the status move with it.
    fn tick(&self) -> Timestamp {
        let read = ClockReading { wall: clock::now(), monotonic: self.started.elapsed() };
        let last = std::mem::replace(&mut *self.clocks.lock().unwrap_or_else(PoisonError::into_inner), read);
        let seconds = read.step_since(last);
        if seconds != 0 {
            self.status.send_modify(|status| status.shift(seconds));
        }
        read.wall
    }

    /// Changes the status; `change` gets the time.
    pub fn update(&self, change: impl FnOnce(&mut Status, Timestamp)) {
        let now = self.tick();
        self.status.send_modify(|status| change(status, now));
    }

    /// A run has ended.
    pub fn reconciled(&self, run: &Run<'_>) {
        self.metrics.time(run.trigger, run.took);
        self.metrics.deferred(run.deferred);
        self.update(|status, now| status.reconciled(run, now));
    }

    /// The proxy for Services has changed; `problems` are all of its problems.
    pub fn set_proxy(&self, state: ProxyState, why: Option<String>, problems: &Problems) {
        self.update(|status, now| status.set_proxy(ProxyStatus { state, why }, problems, now));
    }

    /// A run could not begin.
    pub fn gave_up(&self, trigger: Trigger, took: Duration, problem: Problem) {
        self.metrics.time(trigger, took);
        self.update(|status, now| status.gave_up(trigger, took, problem, now));
    }

    /// The store has had events.
    pub fn record_events(&self, events: &[StoreEvent]) {
        self.update(|status, now| {
            for event in events {
                match event {
                    StoreEvent::Unavailable(what) => {
                        status.store.trouble = Some(StoreTrouble { what: what.clone(), since: now });
                    }
                    StoreEvent::Available => status.store.trouble = None,
                    _ => status.store.last_event = Some(now),
                }
            }
        });
    }

    /// The status as it is now.
    pub fn status(&self) -> watch::Ref<'_, Status> {
        self.status.borrow()
    }

    /// The status as one line of JSON.
    pub fn document(&self) -> Result<String, serde_json::Error> {
        self.tick();
        serde_json::to_string(&*self.status.borrow())
    }

    /// The counters, and the status as numbers, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.tick();
        self.metrics.text(&self.status.borrow())
    }

    /// Subscribes to each change from now on.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}
