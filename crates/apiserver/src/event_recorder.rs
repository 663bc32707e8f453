//! Events about objects, which `kubectl describe` shows: each warning once until it is over, and later where the API server cannot be
//! reached. A warning that comes again is counted in the Event that is there. Nobody waits for an Event.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::time::Duration;

use fnv::FnvHasher;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use crate::error::chain;
use crate::{ApiError, ApiServer, Remedies};

/// How many Events wait at most: old news is of less use once the API server is back.
const MAX_WAITING: usize = 16;
/// So many warnings are remembered as recorded.
const MAX_RECORDED: usize = 256;
/// So many texts of one of them are.
const MAX_TEXTS: usize = 16;
/// The first and the longest wait after a failure.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// So many Events may be posted at once, and one more after each of these periods.
const RATE: (u32, Duration) = (25, Duration::from_secs(10));
/// The API takes messages of up to 1 kB.
const MAX_MESSAGE: usize = 1000;
/// The API takes names of up to 253 characters.
const MAX_NAME: usize = 253;

/// Something that a person should do something about. Reason and subject identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning<T = ()> {
    /// A word that programs can compare: `InvalidConfiguration`.
    pub reason: String,
    /// What the warning is about.
    pub subject: String,
    /// The message.
    pub text: String,
    /// By what the caller finds the object that the Event is about.
    pub target: T,
}

impl<T> Warning<T> {
    fn key(&self) -> (String, String) {
        (self.reason.clone(), self.subject.clone())
    }
}

/// Whom an Event is about, and who says so.
#[derive(Debug, Clone)]
pub struct Regarding {
    /// The object.
    pub object: ObjectReference,
    /// The program's name.
    pub component: &'static str,
    /// The node that the program runs on.
    pub host: String,
}

/// Hands Events to the task that posts them.
#[derive(Debug, Clone)]
pub struct EventRecorder<T = ()> {
    orders: mpsc::UnboundedSender<Order<T>>,
}

#[derive(Debug)]
enum Order<T> {
    Warn(Warning<T>),
    Over((String, String)),
}

impl<T: Send> EventRecorder<T> {
    /// A recorder, and the task that posts its Events until the last recorder is dropped. `regarding` gives the object that a warning is
    /// about; the warning is dropped where there is none. `complain` logs why Events cannot be recorded.
    pub fn new<F>(
        server: ApiServer,
        regarding: impl Fn(&T) -> F + Send + Sync,
        complain: impl Fn(&ApiError) + Send,
    ) -> (Self, impl Future<Output = ()> + Send)
    where
        F: Future<Output = Result<Option<Regarding>, ApiError>> + Send,
        T: Sync,
    {
        let (orders, mut receiver) = mpsc::unbounded_channel();
        let task = async move {
            let (mut queue, mut budget) = (Queue::default(), Budget::default());
            let (mut retry_at, mut wait) = (None::<Instant>, WAIT.0);
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
                    && let Some((warning, count)) = queue.waiting.front()
                {
                    if let Err(next) = budget.spend(Instant::now()) {
                        retry_at = Some(next);
                        break;
                    }
                    let posted = async {
                        match regarding(&warning.target).await? {
                            Some(regarding) => record(&server, &regarding, warning, *count).await,
                            None => Ok(()),
                        }
                    };
                    let Err(error) = posted.await else {
                        queue.waiting.pop_front();
                        wait = WAIT.0;
                        continue;
                    };
                    if error.is_transient() {
                        retry_at = Some(Instant::now() + error.retry_after().unwrap_or_default().max(wait));
                        wait = (wait * 2).min(WAIT.1);
                    } else {
                        queue.waiting.clear();
                    }
                    complain(&error);
                }
            }
        };
        (Self { orders }, task)
    }

    /// Records a warning. The same one with the same text is recorded again only after it was over.
    pub fn warn(&self, warning: Warning<T>) {
        // Without a task Events are not recorded.
        let _ = self.orders.send(Order::Warn(warning));
    }

    /// The warning of this reason and subject is over, whatever its text was.
    pub fn over(&self, reason: String, subject: String) {
        let _ = self.orders.send(Order::Over((reason, subject)));
    }
}

/// Logs each reason why Events cannot be recorded once, as a warning.
pub fn warn_of(remedies: &'static Remedies) -> impl Fn(&ApiError) + Send {
    let known = std::sync::Mutex::new(None);
    move |error| {
        let text = format!("Events cannot be recorded: {}: {}", error.advice(remedies), chain(error));
        let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.as_ref() != Some(&text) {
            tracing::warn!("{text}");
            *known = Some(text);
        }
    }
}

/// How many Events may still be posted: the moment up to which they are paid for.
#[derive(Debug, Default)]
struct Budget(Option<Instant>);

impl Budget {
    /// Takes one Event from the budget, or says when there is one again.
    fn spend(&mut self, now: Instant) -> Result<(), Instant> {
        let (most, period) = RATE;
        let paid = self.0.map_or(now, |paid| paid.max(now)) + period;
        let last = now + period * most;
        if paid > last {
            return Err(now + (paid - last));
        }
        self.0 = Some(paid);
        Ok(())
    }
}

/// What is known of the warnings of one reason and subject.
#[derive(Debug, Default)]
struct Recorded {
    /// How often each text has come.
    counts: BTreeMap<String, i32>,
    /// The text that holds, until the warning is over.
    current: Option<String>,
}

#[derive(Debug)]
struct Queue<T> {
    /// The warnings to record, each with how often it has come.
    waiting: VecDeque<(Warning<T>, i32)>,
    recorded: BTreeMap<(String, String), Recorded>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), recorded: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    fn take(&mut self, order: Order<T>) {
        match order {
            Order::Warn(warning) => {
                if self.recorded.len() >= MAX_RECORDED {
                    self.recorded.clear();
                }
                let known = self.recorded.entry(warning.key()).or_default();
                if known.current.as_ref() == Some(&warning.text) {
                    return;
                }
                known.current = Some(warning.text.clone());
                if known.counts.len() >= MAX_TEXTS {
                    known.counts.clear();
                }
                let count = known.counts.entry(warning.text.clone()).or_default();
                *count += 1;
                self.waiting.push_back((warning, *count));
                self.waiting.drain(..self.waiting.len().saturating_sub(MAX_WAITING));
            }
            Order::Over(key) => {
                if let Some(known) = self.recorded.get_mut(&key) {
                    known.current = None;
                }
                self.waiting.retain(|(waiting, _)| waiting.key() != key);
            }
        }
    }
}

/// Records an Event about an object now.
///
/// # Errors
/// Where the API server does not take it.
pub async fn post<T>(server: &ApiServer, regarding: &Regarding, warning: &Warning<T>) -> Result<(), ApiError> {
    record(server, regarding, warning, 1).await
}

/// Records that a warning has come for the `count`th time. Its Event has one name on every node and after a restart, so that all of them
/// write into one.
async fn record<T>(
    server: &ApiServer,
    regarding: &Regarding,
    warning: &Warning<T>,
    count: i32,
) -> Result<(), ApiError> {
    let Regarding { object, component, host } = regarding;
    // Events about an object without a namespace are in the namespace default.
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let events = server.namespaced::<Event>(&namespace);
    let name = name(object, warning);
    let now = Timestamp::now();
    let again = |change: &serde_json::Value| {
        let patch = Patch::Merge(change.clone());
        let (events, name) = (events.clone(), name.clone());
        async move { events.patch(&name, &PatchParams::default(), &patch).await.map(drop).map_err(ApiError::from) }
    };
    if count > 1 {
        let counted = again(&json!({ "count": count, "lastTimestamp": Time(now) })).await;
        if counted.as_ref().err().and_then(ApiError::code) != Some(404) {
            return counted;
        }
    }
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: object.clone(),
        type_: Some("Warning".to_owned()),
        reason: Some(warning.reason.clone()),
        message: Some(warning.text.chars().take(MAX_MESSAGE).collect()),
        source: Some(EventSource { component: Some((*component).to_owned()), host: Some(host.clone()) }),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(count),
        ..Event::default()
    };
    match events.create(&PostParams::default(), &event).await.map_err(ApiError::from) {
        // Of another node, or of an earlier process.
        Err(error) if error.code() == Some(409) => again(&json!({ "lastTimestamp": Time(now) })).await,
        created => created.map(drop),
    }
}

/// The name of a warning's Event: that of the object, and a number that follows from all that the Event says.
fn name<T>(object: &ObjectReference, warning: &Warning<T>) -> String {
    let uid = object.uid.as_deref().unwrap_or_default();
    // Another version of the program has the same number.
    let mut hasher = FnvHasher::default();
    hasher.write(format!("{uid}\0{}\0{}\0", warning.reason, warning.text).as_bytes());
    let number = format!(".{:016x}", hasher.finish());
    let object = object.name.as_deref().unwrap_or_default();
    let start = object.get(..MAX_NAME - number.len()).unwrap_or(object).trim_end_matches(['.', '-']);
    format!("{start}{number}")
}

#[cfg(test)]
mod tests;
