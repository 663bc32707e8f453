//! Watches etcd: a list, then every change after that list. An interrupted watch begins again with a list.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::{EventType, WatchResponse};
use network::chain;
use network::model::NodeName;
use network::text::printable;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{self, Instant};

use super::client::{CallError, Client};
use super::key_cache::KeyCache;
use super::key_value::KeyValue;
use crate::store::{Closed, StoreEvent, send};

/// The first and the longest delay before etcd is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// After an interruption: how long missing nodes may take to write their keys again before they count as gone. All of them may have
/// lost their keys.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Starts to watch, until the receiver is dropped.
pub(super) fn start(client: Client, own: Arc<OnceLock<NodeName>>) -> mpsc::Receiver<StoreEvent> {
    let (events, receiver) = mpsc::channel(1024);
    let cache = KeyCache::new(client.config.prefix.clone());
    task::spawn(async move {
        let _ = KeyWatcher { client, own, cache, events, unavailable: None, missing_until: None }.run().await;
    });
    receiver
}

struct KeyWatcher {
    client: Client,
    /// This node, once it has a lease.
    own: Arc<OnceLock<NodeName>>,
    cache: KeyCache,
    events: mpsc::Sender<StoreEvent>,
    /// Why etcd is unavailable, as it was reported.
    unavailable: Option<String>,
    /// When missing nodes count as gone.
    missing_until: Option<Instant>,
}

impl KeyWatcher {
    async fn run(mut self) -> Result<(), Closed> {
        let mut delay = RETRY.0;
        loop {
            let start = Instant::now();
            let interruption = match self.list().await? {
                Ok(revision) => self.watch(revision + 1).await?,
                Err(reason) => Some(reason),
            };
            if let Some(reason) = interruption {
                self.report_unavailable(reason).await?;
            }
            if start.elapsed() > RETRY.1 {
                delay = RETRY.0;
            }
            tokio::select! {
                () = time::sleep(delay) => {}
                () = self.events.closed() => return Err(Closed),
            }
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// Reads all keys; gives the revision of the list, or the reason why there is none.
    async fn list(&mut self) -> Result<Result<i64, String>, Closed> {
        let (kvs, revision) = match self.client.list(&self.client.config.prefix).await {
            Ok(listed) => listed,
            Err(error) => return Ok(Err(describe(&error))),
        };
        let events = self.cache.list(&kvs, self.unavailable.is_some(), self.own.get());
        if self.cache.net_conf.is_none() {
            let key = self.client.config.config_key();
            return Ok(Err(format!("etcd has no network configuration at {key}: put it there")));
        }
        self.missing_until = (!self.cache.missing.is_empty()).then(|| Instant::now() + GONE_AFTER);
        if self.unavailable.take().is_some() {
            send(&self.events, vec![StoreEvent::Available]).await?;
        }
        self.send(events).await?;
        Ok(Ok(revision))
    }

    /// Follows the changes from a revision on. Ends with a reason to report, or with `None` where a new list is enough.
    async fn watch(&mut self, revision: i64) -> Result<Option<String>, Closed> {
        let mut watch = match self.client.watch(&self.client.config.prefix, revision).await {
            Ok(watch) => watch,
            Err(error) => return Ok(Some(describe(&error))),
        };
        loop {
            let response = tokio::select! {
                response = watch.next() => response,
                () = time::sleep_until(self.missing_until.unwrap_or_else(Instant::now)), if self.missing_until.is_some() => {
                    self.missing_until = None;
                    let gone = self.cache.expire_missing();
                    self.send(gone).await?;
                    continue;
                }
                () = self.events.closed() => return Err(Closed),
            };
            let response = match response {
                Ok(response) => response,
                Err(reason) => {
                    // The next list uses another connection. Only a failure of that list is reported.
                    tracing::debug!("the watch of etcd ended: {reason}");
                    self.client.close(watch.connection).await;
                    return Ok(None);
                }
            };
            self.send_changes(&response).await?;
            if self.cache.net_conf.is_none() {
                let key = self.client.config.config_key();
                return Ok(Some(format!("the network configuration at {key} was deleted")));
            }
            if response.canceled() {
                let (compacted, reason) = (response.compact_revision(), response.cancel_reason());
                tracing::debug!(compacted, "etcd canceled the watch: {reason}");
                if compacted > 0 {
                    // The changes since the last one received are compacted. A list contains their result.
                    return Ok(None);
                }
                // The token has expired, or the user may not watch. Another connection brings another token.
                self.client.close(watch.connection).await;
                return Ok(Some(format!("etcd refuses to send changes: {reason}")));
            }
        }
    }

    async fn send_changes(&mut self, response: &WatchResponse) -> Result<(), Closed> {
        for event in response.events() {
            let Some(kv) = event.kv().and_then(KeyValue::new) else { continue };
            let events = match event.event_type() {
                EventType::Put => self.cache.put(&kv),
                EventType::Delete => self.cache.delete(&kv.key),
            };
            self.send(events).await?;
        }
        Ok(())
    }

    /// Reports that etcd is unavailable, once for reasons of the same kind: a connection may fail with many texts.
    async fn report_unavailable(&mut self, reason: String) -> Result<(), Closed> {
        let kind = |reason: &str| reason.split(": ").next().map(str::to_owned);
        if self.unavailable.as_deref().is_none_or(|reported| kind(reported) != kind(&reason)) {
            send(&self.events, vec![StoreEvent::Unavailable(reason.clone())]).await?;
        }
        self.unavailable = Some(reason);
        Ok(())
    }

    /// Sends the cache's faults and events.
    async fn send(&mut self, mut events: Vec<StoreEvent>) -> Result<(), Closed> {
        let prefix = &self.client.config.prefix;
        let faults = self.cache.faults.drain(..);
        events.extend(faults.map(|(key, fault)| {
            let title = format!("etcd's key {}", printable(&format!("{prefix}{key}")));
            StoreEvent::Fault(title, fault)
        }));
        send(&self.events, events).await
    }
}

fn describe(error: &CallError) -> String {
    format!("etcd cannot be followed: {}: {}", error.advice(), chain(error))
}
