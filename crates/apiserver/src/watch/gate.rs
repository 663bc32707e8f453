//! The gate between kube-runtime's watcher and the connection: it sees each request of one watch.
//!
//! Versions only grow, but for an etcd that is restored from a backup. An API server that is asked for changes since a version that it
//! has not reached yet sends nothing, and no error either. So an API server that was away is first asked which version it has reached;
//! where that is lower, the gate answers 410, and all objects are listed again.
//!
//! kube-runtime resumes a watch that has ended at once, and shows its user neither the end nor the resumption. The gate waits before a
//! watch that has ended early is resumed, and reports a resumption. It lets one streamed list pass at a time: kube-runtime would begin the
//! next at once where one has ended before it was whole.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::{self, Instant};

use crate::connection::Answer;
use crate::{ApiError, ApiServer};

/// The first and the longest wait before a request is sent again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// An API server may end a watch so much before its time by this node's clock.
const TOLERANCE: Duration = Duration::from_secs(5);

pub(super) struct Gate {
    server: ApiServer,
    /// Waits are so much longer, in percent.
    spread: u32,
    state: Mutex<State>,
    /// A watch goes on where it was.
    pub(super) resumed: Notify,
}

struct State {
    next_wait: Duration,
    /// When the present watch was begun, and how long the API server keeps it open.
    open: Option<(Instant, Duration)>,
    /// A streamed list may be asked for.
    list_allowed: bool,
    /// The API server was away since the last list: it may have another etcd.
    was_away: bool,
    /// A request has failed since the API server has forgotten a version.
    has_failed: bool,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
}

impl Gate {
    pub(super) fn new(server: ApiServer, spread: u64) -> Self {
        let state = State { next_wait: WAIT.0, open: None, list_allowed: false, was_away: false, has_failed: false };
        let spread = u32::try_from(spread % 50).unwrap_or_default();
        Self { server, spread, state: Mutex::new(state), resumed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before the next request; longer each time until [`Gate::is_healthy`].
    pub(super) fn next_wait(&self) -> Duration {
        let mut state = self.state();
        let wait = state.next_wait;
        state.next_wait = (wait * 2).min(WAIT.1);
        wait + wait * self.spread / 100
    }

    /// A change has come by the watch.
    pub(super) fn is_healthy(&self) {
        self.state().next_wait = WAIT.0;
    }

    /// The next request may be for a streamed list.
    pub(super) fn allow_list(&self) {
        self.state().list_allowed = true;
    }

    /// A list is whole: versions count from it.
    pub(super) fn is_listed(&self) {
        self.state().was_away = false;
    }

    /// A request has failed, or a connection broke. The caller waits by itself.
    pub(super) fn is_away(&self) {
        let mut state = self.state();
        (state.was_away, state.has_failed, state.open) = (true, true, None);
    }

    /// The API server has forgotten the watch's version. An API server that has just come back has forgotten it and answers again: the
    /// list waits as a first try does. A list that is followed by the same answer waits longer.
    pub(super) fn is_expired(&self) {
        let mut state = self.state();
        if !state.was_away && std::mem::take(&mut state.has_failed) {
            state.next_wait = WAIT.0;
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Answer, ApiError> {
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let Some(seconds) = parameter("timeoutSeconds") else {
            return self.server.connection.send(request).await;
        };
        let lasts = Duration::from_secs(seconds.parse().unwrap_or_default());
        let version = parameter("resourceVersion").filter(|_| parameter("sendInitialEvents").is_none());
        if let Some(version) = version {
            let selector = parameter("fieldSelector").map(|fields| format!("&fieldSelector={fields}"));
            let uri = format!("{}?limit=1{}", request.uri().path(), selector.unwrap_or_default());
            self.before_resumption(&uri, version.parse().unwrap_or_default()).await?;
        }
        let is_resumed = version.is_some();
        if !is_resumed && !std::mem::take(&mut self.state().list_allowed) {
            return Err(expired("a list has ended before it was whole"));
        }
        let answer = self.server.connection.send(request).await?;
        self.state().open = Some((Instant::now(), lasts));
        if is_resumed {
            self.resumed.notify_one();
        }
        Ok(answer)
    }

    /// Waits where the last watch has ended at once, and looks whether the API server has reached the version.
    async fn before_resumption(&self, uri: &str, version: u64) -> Result<(), ApiError> {
        let last = self.state().open.take();
        if let Some((begun, lasts)) = last {
            self.state().was_away |= begun.elapsed() + TOLERANCE < lasts;
            if begun.elapsed() < WAIT.1 {
                time::sleep(self.next_wait()).await;
            } else {
                self.is_healthy();
            }
        }
        if !self.state().was_away {
            return Ok(());
        }
        let request = Request::get(uri).body(Vec::new()).map_err(|error| ApiError::Config(error.into()))?;
        let List { metadata } = self.server.client.request(request).await?;
        let reached = metadata.resource_version.and_then(|version| version.parse::<u64>().ok());
        if reached.is_some_and(|reached| reached < version) {
            tracing::warn!(uri, "the API server's etcd was put back to an earlier state: all objects are listed again");
            return Err(expired("its etcd was put back to an earlier state"));
        }
        self.state().was_away = false;
        Ok(())
    }
}

/// The refusal that makes the watch list all objects again.
fn expired(message: &str) -> ApiError {
    ApiError::Refused { code: 410, message: message.to_owned(), retry_after: None }
}
