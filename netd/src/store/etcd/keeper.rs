//! Keeps this node's lease alive: one lease for as long as it lasts, not a new one each day.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use network::chain;
use tokio::task::{self, AbortHandle};
use tokio::time;

use super::client::Client;

/// How long a lease outlives its node, in seconds: flannel's day.
pub(super) const TTL: i64 = 24 * 60 * 60;

/// The first and the longest wait before a renewal that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The lease of this node, and the task that renews it. Dropping it ends the task; the lease lives on.
#[derive(Debug)]
pub(super) struct Keeper {
    margin: Duration,
    lease: AtomicI64,
    task: Mutex<Option<AbortHandle>>,
}

impl Keeper {
    /// One that renews a lease at the latest `margin` before its end.
    pub(super) fn new(margin: Duration) -> Self {
        Self { margin, lease: AtomicI64::new(0), task: Mutex::new(None) }
    }

    /// The lease, where there is one.
    pub(super) fn lease(&self) -> Option<i64> {
        Some(self.lease.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// Renews `lease` from now on instead of any other; 0 is none.
    pub(super) fn keep(&self, client: &Client, lease: i64, ttl: i64) {
        if self.lease.swap(lease, Ordering::Relaxed) == lease && lease != 0 {
            return;
        }
        let task = (lease != 0).then(|| task::spawn(renew(client.clone(), lease, ttl, self.margin)).abort_handle());
        let mut running = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = std::mem::replace(&mut *running, task) {
            former.abort();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// When a lease of `ttl` seconds is renewed: three times in its life, and earlier where the margin asks for it.
fn interval(ttl: i64, margin: Duration) -> Duration {
    let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    (ttl / 3).min(ttl.saturating_sub(margin)).max(Duration::from_secs(1))
}

/// Ends when the lease has: its key goes with it, which the watch tells.
async fn renew(client: Client, lease: i64, mut ttl: i64, margin: Duration) {
    loop {
        time::sleep(interval(ttl, margin)).await;
        let (mut wait, mut told) = (RETRY.0, String::new());
        ttl = loop {
            match client.keep_alive(lease).await {
                Ok(left) => break left,
                Err(error) => {
                    let why = format!("this node's lease in etcd cannot be renewed: {}", chain(&error));
                    // Once, and not at each try.
                    if why != told {
                        tracing::warn!("{why}");
                        told = why;
                    }
                }
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        };
        if ttl <= 0 {
            tracing::warn!("this node's lease in etcd has ended: another one is taken");
            return;
        }
        tracing::debug!(lease = format!("{lease:x}"), ttl, "lease in etcd renewed");
    }
}

#[cfg(test)]
mod tests;
