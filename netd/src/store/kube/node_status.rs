//! The writing to the own Node that nobody waits for: its condition `NetworkUnavailable`, and the addresses that peers see where the
//! Node's owner overwrites them. A write that fails is repeated later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::ApiError;
use network::chain;
use tokio::sync::Notify;
use tokio::time;

use super::Shared;
use crate::config::store::REMEDIES;

/// The first and the longest wait after a failure.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long one correction may take.
const CORRECTION: Duration = Duration::from_secs(10);

/// What there is to write.
#[derive(Debug, Default)]
pub(super) struct NodeStatus {
    /// The network is ready.
    ready: AtomicBool,
    /// There is something to write, or the own Node was received.
    pub(super) changed: Notify,
}

impl NodeStatus {
    /// The network is ready: pods can be scheduled here.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// Writes until the task is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut set_for, mut wait, mut complaint) = (None, WAIT.0, None);
    loop {
        shared.node_status.changed.notified().await;
        while let Err(error) = set_condition(&shared, &mut set_for).await {
            let text = format!(
                "the node's condition NetworkUnavailable cannot be set: {}: {}",
                error.advice(&REMEDIES),
                chain(&error)
            );
            if complaint.as_ref() != Some(&text) {
                tracing::warn!("{text}");
                complaint = Some(text);
            }
            time::sleep(error.retry_after().unwrap_or_default().max(wait)).await;
            wait = (wait * 2).min(WAIT.1);
        }
        (wait, complaint) = (WAIT.0, None);
        if shared.own.node().is_some_and(|node| shared.own.needs_correction(&node))
            && let Err(error) = shared.own.correct(CORRECTION).await
        {
            // The next event of the own Node repeats the correction.
            tracing::warn!("the addresses that peers see of this node cannot be corrected: {}", chain(&error));
        }
    }
}

/// Sets the condition once for each Node that this node has had, where the Node does not have it. `set_for` are the UID and the version
/// of the Node whose condition was set. A Node whose version is lower than it was counts as another one: the API server's etcd was
/// restored from a backup.
async fn set_condition(shared: &Shared, set_for: &mut Option<(String, Option<u64>)>) -> Result<(), ApiError> {
    let is_wanted = shared.config.sets_condition && shared.node_status.ready.load(Ordering::Relaxed);
    let Some(node) = shared.own.node().filter(|_| is_wanted) else { return Ok(()) };
    if set_for.as_ref().is_some_and(|(uid, version)| *uid == node.uid && *version <= node.version) {
        return Ok(());
    }
    if node.unavailable.as_deref() != Some("False") {
        shared.own.set_available().await?;
        tracing::info!("the node's condition NetworkUnavailable is False now");
    }
    *set_for = Some((node.uid.clone(), node.version));
    Ok(())
}

#[cfg(test)]
mod tests;
