//! The way to the daemon: store events, and the errors of the tasks that follow the API server, each reported once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apiserver::task_errors::{TaskErrors, TaskReport};
use tokio::sync::mpsc;

use crate::store::StoreEvent;

/// The daemon receives no more events.
#[derive(Debug)]
pub(super) struct Closed;

/// Sends events to the daemon. A clone sends to the same one and shares the errors.
#[derive(Debug, Clone)]
pub(super) struct StoreEvents {
    events: mpsc::Sender<StoreEvent>,
    errors: Arc<Mutex<TaskErrors>>,
}

impl StoreEvents {
    pub(super) fn new(events: mpsc::Sender<StoreEvent>) -> Self {
        Self { events, errors: Arc::default() }
    }

    /// Ends when the daemon receives no more.
    pub(super) async fn closed(&self) {
        self.events.closed().await;
    }

    /// Sends events, with no pause between as far as there is room.
    pub(super) async fn send(&self, events: Vec<StoreEvent>) -> Result<(), Closed> {
        let mut events = events.into_iter();
        loop {
            let many = events.len().min(self.events.max_capacity());
            if many == 0 {
                return Ok(());
            }
            let permits = self.events.reserve_many(many).await.map_err(|_| Closed)?;
            permits.zip(&mut events).for_each(|(permit, event)| permit.send(event));
        }
    }

    /// A task fails.
    pub(super) async fn report_error(&self, task: &'static str, text: &str) -> Result<(), Closed> {
        let report = self.errors().report_error(task, text);
        self.report(report).await
    }

    /// A task does not fail any more.
    pub(super) async fn report_ok(&self, task: &'static str) -> Result<(), Closed> {
        let report = self.errors().report_ok(task);
        self.report(report).await
    }

    fn errors(&self) -> MutexGuard<'_, TaskErrors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn report(&self, report: Option<TaskReport>) -> Result<(), Closed> {
        let event = report.map(|report| match report {
            TaskReport::Failing(text) => StoreEvent::Unavailable(text),
            TaskReport::Recovered => StoreEvent::Available,
        });
        self.send(event.into_iter().collect()).await
    }
}
