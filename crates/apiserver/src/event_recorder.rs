//! Events about one object, which `kubectl describe` shows: each warning once until it is over, and again later where the API server
//! cannot be reached. Nobody waits for an Event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use crate::error::chain;
use crate::{ApiError, ApiServer, Remedies};

/// How many Events wait at most: old news is of less use once the API server is back.
const MAX_WAITING: usize = 16;
/// So many warnings are remembered as recorded.
const MAX_RECORDED: usize = 64;
/// The first and the longest wait after a failure.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The API takes messages of up to 1 kB.
const MAX_MESSAGE: usize = 1000;

/// Something that a person should do something about. Reason and subject identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A word that programs can compare: `InvalidConfiguration`.
    pub reason: String,
    /// What the warning is about.
    pub subject: String,
    /// The message.
    pub text: String,
}

impl Warning {
    fn key(&self) -> (String, String) {
        (self.reason.clone(), self.subject.clone())
    }
}

/// Hands Events to the task that posts them.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Warn(Warning),
    Over(Warning),
}

impl EventRecorder {
    /// A recorder, and the task that posts its Events until the last recorder is dropped. `component` is the program's name;
    /// `regarding` gives the object that Events are about; a warning is dropped while that is not known.
    pub fn new(
        server: ApiServer,
        component: &'static str,
        remedies: &'static Remedies,
        regarding: impl Fn() -> Option<ObjectReference> + Send + Sync,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (orders, mut receiver) = mpsc::unbounded_channel();
        let task = async move {
            let mut queue = Queue::default();
            let (mut retry_at, mut wait, mut complaint) = (None::<Instant>, WAIT.0, None);
            loop {
                let order = match retry_at {
                    Some(at) => time::timeout_at(at, receiver.recv()).await,
                    None => Ok(receiver.recv().await),
                };
                match order {
                    Ok(Some(order)) => queue.take(order),
                    Ok(None) => return,
                    Err(_) => retry_at = None,
                }
                while retry_at.is_none()
                    && let Some(warning) = queue.waiting.front()
                {
                    let Some(object) = regarding() else {
                        queue.waiting.clear();
                        break;
                    };
                    let Err(error) = post(&server, component, object, warning).await else {
                        queue.waiting.pop_front();
                        (wait, complaint) = (WAIT.0, None);
                        continue;
                    };
                    if error.is_transient() {
                        retry_at = Some(Instant::now() + error.retry_after().unwrap_or_default().max(wait));
                        wait = (wait * 2).min(WAIT.1);
                    } else {
                        queue.waiting.clear();
                    }
                    let text = format!("Events cannot be recorded: {}: {}", error.advice(remedies), chain(&error));
                    if complaint.as_ref() != Some(&text) {
                        tracing::warn!("{text}");
                        complaint = Some(text);
                    }
                }
            }
        };
        (Self { orders }, task)
    }

    /// Records a warning. The same one with the same text is recorded again only after it was over.
    pub fn warn(&self, warning: Warning) {
        // Without a task Events are not recorded.
        let _ = self.orders.send(Order::Warn(warning));
    }

    /// The warning is over, whatever its text was.
    pub fn over(&self, warning: Warning) {
        let _ = self.orders.send(Order::Over(warning));
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Warning>,
    /// The texts by the keys of their warnings.
    recorded: BTreeMap<(String, String), String>,
}

impl Queue {
    fn take(&mut self, order: Order) {
        match order {
            Order::Warn(warning) => {
                if self.recorded.len() >= MAX_RECORDED {
                    self.recorded.clear();
                }
                let known = self.recorded.insert(warning.key(), warning.text.clone());
                if known.as_ref() != Some(&warning.text) {
                    self.waiting.push_back(warning);
                    self.waiting.drain(..self.waiting.len().saturating_sub(MAX_WAITING));
                }
            }
            Order::Over(warning) => {
                self.recorded.remove(&warning.key());
                self.waiting.retain(|waiting| waiting.key() != warning.key());
            }
        }
    }
}

/// Posts one Event about an object now.
///
/// # Errors
/// Where the API server does not take it.
pub async fn post(
    server: &ApiServer,
    component: &str,
    object: ObjectReference,
    warning: &Warning,
) -> Result<(), ApiError> {
    let name = object.name.clone().unwrap_or_default();
    let now = Some(Time(Timestamp::now()));
    // Events about an object without a namespace are in the namespace default.
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let metadata = ObjectMeta {
        generate_name: Some(format!("{name}.")),
        namespace: Some(namespace.clone()),
        ..ObjectMeta::default()
    };
    let event = Event {
        metadata,
        involved_object: object,
        type_: Some("Warning".to_owned()),
        reason: Some(warning.reason.clone()),
        message: Some(warning.text.chars().take(MAX_MESSAGE).collect()),
        source: Some(EventSource { component: Some(component.to_owned()), host: Some(name) }),
        first_timestamp: now.clone(),
        last_timestamp: now,
        count: Some(1),
        ..Event::default()
    };
    server.namespaced::<Event>(&namespace).create(&PostParams::default(), &event).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
