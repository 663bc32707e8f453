//! Tells the cluster about this node: Events on its Node, its condition, and corrections of what peers see. None of it is needed for
//! packets to flow, so nobody waits for it, and what fails is tried again later or let go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use network::chain;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use super::Shared;
use super::api::CallError;
use crate::clock;
use crate::problem::{Problem, Problems};
use crate::store::Notice;

/// How many Events wait at most; what is told while the API server is away is of less use afterwards.
const WAITING: usize = 16;
/// So many different texts are remembered as told.
const TOLD: usize = 64;
/// The first and the longest wait after a failure.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// The daemon has something to tell.
    Tell(Notice),
    /// The own Node was seen again.
    Look,
    /// The own Node's annotations are not as its owner wants them seen.
    Correct,
}

/// Does the jobs until nobody has any more.
pub(super) async fn run(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut herald = Herald {
        shared,
        waiting: VecDeque::new(),
        told: Problems::new(),
        ready: false,
        set_for: None,
        correct: false,
        again: None,
        wait: AGAIN.0,
        complaint: None,
    };
    loop {
        let job = tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => Some(job),
                None => return,
            },
            () = time::sleep_until(herald.again.unwrap_or_else(Instant::now)), if herald.again.is_some() => None,
        };
        match job {
            Some(job) => herald.take(job),
            None => herald.again = None,
        }
        if herald.again.is_none() {
            herald.work().await;
        }
    }
}

struct Herald {
    shared: Arc<Shared>,
    waiting: VecDeque<Problem>,
    told: Problems,
    /// The network is ready.
    ready: bool,
    /// Of which Node the condition was set, and at which version.
    set_for: Option<(String, Option<u64>)>,
    correct: bool,
    /// When to try again.
    again: Option<Instant>,
    wait: Duration,
    /// What a person was told of a failure.
    complaint: Option<String>,
}

impl Herald {
    fn take(&mut self, job: Job) {
        match job {
            Job::Tell(Notice::Ready) => self.ready = true,
            Job::Tell(Notice::Resolved(problem)) => {
                self.told.remove(&problem);
                self.waiting.retain(|waiting| *waiting != problem);
            }
            Job::Tell(Notice::Problem(problem)) => {
                if self.told.len() >= TOLD {
                    self.told.clear();
                }
                let known = self.told.replace(problem.clone());
                if !known.is_some_and(|known| problem.says_the_same_as(&known)) {
                    self.waiting.push_back(problem);
                    self.waiting.drain(..self.waiting.len().saturating_sub(WAITING));
                }
            }
            Job::Look => {}
            Job::Correct => self.correct = true,
        }
    }

    async fn work(&mut self) {
        let done = self.try_to().await;
        match done {
            Ok(()) => (self.wait, self.complaint) = (AGAIN.0, None),
            Err((what, error)) => {
                let complaint = format!("{what}: {}: {}", error.advice(), chain(&error));
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}");
                    self.complaint = Some(complaint);
                }
                self.again = Some(Instant::now() + error.after().unwrap_or_default().max(self.wait));
                self.wait = (self.wait * 2).min(AGAIN.1);
            }
        }
    }

    async fn try_to(&mut self) -> Result<(), (&'static str, CallError)> {
        self.set_condition().await.map_err(|error| ("the node's condition NetworkUnavailable cannot be set", error))?;
        if std::mem::take(&mut self.correct) {
            let shared = &self.shared;
            if let Err(error) = shared.own.correct(&shared.api, &shared.options, Duration::from_secs(10)).await {
                // The next sight of the own Node asks for it again.
                tracing::warn!("what peers see of this node cannot be corrected: {}", chain(&error));
            }
        }
        while let Some(problem) = self.waiting.front() {
            let posted = post(&self.shared, problem).await;
            match posted {
                Err(error) if error.is_passing() => return Err(("an Event cannot be told", error)),
                Err(error) => {
                    self.waiting.clear();
                    let complaint = format!("Events cannot be told: {}: {}", error.advice(), chain(&error));
                    if self.complaint.as_ref() != Some(&complaint) {
                        tracing::warn!("{complaint}");
                        self.complaint = Some(complaint);
                    }
                    return Ok(());
                }
                Ok(()) => {
                    self.waiting.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Sets the condition once for each Node that this node has had, where it does not say so. One that is older than it was then, since
    /// the API server's etcd was restored from a backup, is another one.
    async fn set_condition(&mut self) -> Result<(), CallError> {
        let Some(node) = self.shared.own.node().filter(|_| self.ready && self.shared.options.sets_condition) else {
            return Ok(());
        };
        let is_it = |(uid, version): &(String, Option<u64>)| *uid == node.uid && *version <= node.count();
        if self.set_for.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        if node.unavailable.as_deref() != Some("False") {
            self.shared.own.set_available(&self.shared.api).await?;
            tracing::info!("the node's condition NetworkUnavailable is False now");
        }
        self.set_for = Some((node.uid.clone(), node.count()));
        Ok(())
    }
}

/// Makes an Event of a problem.
pub(super) async fn post(shared: &Shared, problem: &Problem) -> Result<(), CallError> {
    let Some(name) = shared.own.name() else { return Ok(()) };
    let uid = shared.own.node().map(|node| node.uid).unwrap_or_default();
    let now = clock::now().to_string();
    // The API takes messages of up to 1 kB.
    let message: String = problem.to_string().chars().take(1000).collect();
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "generateName": format!("{name}."), "namespace": "default" },
        "involvedObject": { "apiVersion": "v1", "kind": "Node", "name": name.as_str(), "uid": uid },
        "type": "Warning", "reason": problem.kind.to_string(), "message": message,
        "source": { "component": "netd", "host": name.as_str() },
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    });
    shared.api.create("/api/v1/namespaces/default/events", &event).await.map(drop)
}

#[cfg(test)]
mod tests;
