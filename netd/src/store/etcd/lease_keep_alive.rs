//! Keeps this node's etcd lease alive: the same lease for as long as it can be renewed, not a new one each day.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use network::chain;
use tokio::task::{self, AbortHandle};
use tokio::time;

use super::client::Client;

/// The lifetime of a lease in seconds: one day, as flannel has it. The lease outlives its node's netd by up to this time.
pub(super) const TTL: i64 = 24 * 60 * 60;

/// The first and the longest delay before a failed renewal is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// This node's lease, and the task that renews it. Dropping it stops the task; the lease lives on in etcd.
pub(super) struct LeaseKeepAlive {
    margin: Duration,
    kept: Mutex<Option<(i64, AbortHandle)>>,
}

impl LeaseKeepAlive {
    /// A lease is renewed at least `margin` before it expires.
    pub(super) fn new(margin: Duration) -> Self {
        Self { margin, kept: Mutex::default() }
    }

    /// The lease that is kept alive.
    pub(super) fn lease(&self) -> Option<i64> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(lease, _)| *lease)
    }

    /// Keeps `lease` alive from now on, instead of any other.
    pub(super) fn start(&self, client: &Client, lease: i64, ttl: i64) {
        if self.lease() != Some(lease) {
            let task = task::spawn(renew(client.clone(), lease, ttl, self.margin));
            self.replace(Some((lease, task.abort_handle())));
        }
    }

    /// Keeps no lease alive.
    pub(super) fn stop(&self) {
        self.replace(None);
    }

    fn replace(&self, kept: Option<(i64, AbortHandle)>) {
        let mut current = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, former)) = std::mem::replace(&mut *current, kept) {
            former.abort();
        }
    }
}

impl Drop for LeaseKeepAlive {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The time until a lease of `ttl` seconds is renewed: a third of its lifetime, less where the margin requires it.
fn interval(ttl: i64, margin: Duration) -> Duration {
    let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    (ttl / 3).min(ttl.saturating_sub(margin)).max(Duration::from_secs(1))
}

/// Renews a lease until it has expired. The node's key expires with the lease, which the watch of the keys reports.
async fn renew(client: Client, lease: i64, mut ttl: i64, margin: Duration) {
    loop {
        time::sleep(interval(ttl, margin)).await;
        let (mut delay, mut logged) = (RETRY.0, String::new());
        ttl = loop {
            match client.keep_alive(lease).await {
                Ok(left) => break left,
                Err(error) => {
                    let reason = format!("this node's lease in etcd cannot be renewed: {}", chain(&error));
                    // Each reason is logged once, not at each try.
                    if reason != logged {
                        tracing::warn!("{reason}");
                        logged = reason;
                    }
                }
            }
            time::sleep(delay).await;
            delay = (delay * 2).min(RETRY.1);
        };
        if ttl <= 0 {
            tracing::warn!("this node's lease in etcd has expired: netd requests a new one");
            return;
        }
        tracing::debug!(lease = format!("{lease:x}"), ttl, "lease in etcd renewed");
    }
}

#[cfg(test)]
mod tests;
