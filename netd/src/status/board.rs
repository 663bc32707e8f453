//! Where the daemon writes what it knows, and everybody who asks reads it.
//!
//! Holds the one status and the counters, and tells those who wait of each change. Decides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::clocks::Clocks;
use super::metrics::Metrics;
use super::moment::Moment;
use super::run::Run;
use super::{Status, Trouble};
use crate::problem::Problem;
use crate::reconcile::Trigger;
use crate::store::StoreEvent;

/// The board. A clone is the same board.
#[derive(Debug, Clone)]
pub struct Board {
    status: watch::Sender<Status>,
    metrics: Arc<Metrics>,
    began: Instant,
    /// As they were read last.
    clocks: Arc<Mutex<Clocks>>,
}

impl Board {
    /// Of a netd that starts now.
    pub fn new() -> Self {
        let (wall, steady) = (now(), Duration::ZERO);
        Self {
            status: watch::Sender::new(Status::new(wall)),
            metrics: Arc::new(Metrics::new()),
            began: Instant::now(),
            clocks: Arc::new(Mutex::new(Clocks { wall, steady })),
        }
    }

    /// What the clock says. Where it was set, what is remembered moves with it.
    fn tick(&self) -> Moment {
        let read = Clocks { wall: now(), steady: self.began.elapsed() };
        let last = std::mem::replace(&mut *self.clocks.lock().unwrap_or_else(PoisonError::into_inner), read);
        let seconds = read.set_since(last);
        if seconds != 0 {
            self.status.send_modify(|status| status.shift(seconds));
        }
        read.wall
    }

    /// Changes the status; the time is given with it.
    pub fn update(&self, change: impl FnOnce(&mut Status, Moment)) {
        let now = self.tick();
        self.status.send_modify(|status| change(status, now));
    }

    /// A run is over.
    pub fn reconciled(&self, run: &Run<'_>) {
        self.metrics.count(run);
        self.metrics.held(run.held);
        self.update(|status, now| status.reconciled(run, now));
    }

    /// A run could not even begin.
    pub fn gave_up(&self, trigger: Trigger, took: Duration, problem: Problem) {
        self.metrics.time(trigger, took);
        self.update(|status, now| status.gave_up(trigger, took, problem, now));
    }

    /// What the store has said.
    pub fn heard(&self, events: &[StoreEvent]) {
        self.update(|status, now| {
            for event in events {
                match event {
                    StoreEvent::Unavailable(what) => {
                        status.store.trouble = Some(Trouble { what: what.clone(), since: now });
                    }
                    StoreEvent::Available => status.store.trouble = None,
                    _ => status.store.last_event = Some(now),
                }
            }
        });
    }

    /// Whether netd is ready.
    pub fn is_ready(&self) -> bool {
        self.status.borrow().ready
    }

    /// What netd waits for before it can begin.
    pub fn waits_for(&self) -> Option<String> {
        self.status.borrow().waits_for().map(|missing| missing.what.clone())
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

    /// Tells of each change from now on.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

/// What the clock says.
pub fn now() -> Moment {
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
