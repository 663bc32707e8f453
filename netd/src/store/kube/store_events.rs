//! The way to the daemon: store events, and the errors of the tasks that follow the API server. A person reads each error once, and one
//! word when none is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::store::{Closed, StoreEvent, send};

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
    pub(super) async fn send(&self, events: impl IntoIterator<Item = StoreEvent>) -> Result<(), Closed> {
        send(&self.events, events.into_iter().collect()).await
    }

    /// A task fails.
    pub(super) async fn report_error(&self, task: &'static str, text: &str) -> Result<(), Closed> {
        let event = self.errors.lock().unwrap_or_else(PoisonError::into_inner).report_error(task, text);
        self.send(event).await
    }

    /// A task does not fail any more.
    pub(super) async fn report_ok(&self, task: &'static str) -> Result<(), Closed> {
        let event = self.errors.lock().unwrap_or_else(PoisonError::into_inner).report_ok(task);
        self.send(event).await
    }
}

/// The errors of the tasks that use one API server.
#[derive(Debug, Default)]
struct TaskErrors {
    by_task: BTreeMap<&'static str, String>,
    /// The task whose error was reported last.
    reported: Option<&'static str>,
}

impl TaskErrors {
    /// A task fails. `None` where a person knows of it: another task's error stands, or the text differs in numbers alone.
    fn report_error(&mut self, task: &'static str, text: &str) -> Option<StoreEvent> {
        let before = self.by_task.insert(task, text.to_owned());
        let is_new = match self.reported {
            None => true,
            Some(reported) => reported == task && before.is_none_or(|before| essence(&before) != essence(text)),
        };
        is_new.then(|| {
            self.reported = Some(task);
            StoreEvent::Unavailable(text.to_owned())
        })
    }

    /// A task does not fail any more.
    fn report_ok(&mut self, task: &'static str) -> Option<StoreEvent> {
        self.by_task.remove(task)?;
        if let Some((other, text)) = self.by_task.first_key_value() {
            return (self.reported == Some(task)).then(|| {
                self.reported = Some(other);
                StoreEvent::Unavailable(text.clone())
            });
        }
        self.reported = None;
        Some(StoreEvent::Available)
    }
}

/// A text without its long numbers: rustls says by how many seconds a certificate has expired, another number each time.
fn essence(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_long_number = |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    words.filter(|word| !is_long_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
