//! Follows etcd: a list, then every change after it; and again from a list whenever the changes were interrupted.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network::chain;
use network::model::NodeName;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{self, Instant};

use super::below;
use super::client::{CallError, Client};
use super::view::{Told, View};
use super::wire::WatchCreateRequest;
use crate::store::StoreEvent;

/// The first and the longest wait before etcd is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long nodes that are missing after trouble have for coming back: they all may have lost their keys.
const RETURN: Duration = Duration::from_secs(10);

/// Starts to follow, until the receiver is dropped.
pub(super) fn start(client: Client, own: Arc<OnceLock<NodeName>>) -> mpsc::Receiver<StoreEvent> {
    let (events, receiver) = mpsc::channel(1024);
    let view = View::new(client.options.prefix.clone());
    task::spawn(async move {
        // It ends where nobody listens any more.
        let _ = Follower { client, own, view, events, trouble: None, returning: None }.follow().await;
    });
    receiver
}

/// Nobody listens any more.
struct Unheard;

struct Follower {
    client: Client,
    /// This node, once it has a lease.
    own: Arc<OnceLock<NodeName>>,
    view: View,
    events: mpsc::Sender<StoreEvent>,
    /// What has been told and is still so.
    trouble: Option<String>,
    /// When missing nodes are gone.
    returning: Option<Instant>,
}

impl Follower {
    async fn follow(mut self) -> Result<(), Unheard> {
        let mut wait = RETRY.0;
        loop {
            let begun = Instant::now();
            let interrupted = match self.list().await {
                Ok(Some(revision)) => self.changes(revision + 1).await?,
                Ok(None) => Some(format!(
                    "etcd has no network configuration at {}config: put it there",
                    self.client.options.prefix
                )),
                Err(Interrupted::Unheard) => return Err(Unheard),
                Err(Interrupted::Etcd(error)) => {
                    Some(format!("etcd cannot be followed: {}: {}", error.advice(), chain(&error)))
                }
            };
            if let Some(why) = interrupted {
                self.tell_trouble(why).await?;
            }
            if begun.elapsed() > RETRY.1 {
                wait = RETRY.0;
            }
            tokio::select! {
                () = time::sleep(wait) => {}
                () = self.events.closed() => return Err(Unheard),
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Reads all there is; the revision that it is of, or `None` where it is not to be believed.
    async fn list(&mut self) -> Result<Option<i64>, Interrupted> {
        let request = below(self.client.options.prefix.clone().into_bytes());
        let listed = self.client.range(request).await.map_err(Interrupted::Etcd)?;
        let told = self.view.list(&listed.kvs, self.trouble.is_some(), self.own.get());
        if !self.view.is_whole() {
            return Ok(None);
        }
        self.returning = self.view.lacks_keys().then(|| Instant::now() + RETURN);
        if self.trouble.take().is_some() {
            self.send(vec![StoreEvent::Available]).await?;
        }
        self.tell(told).await?;
        Ok(Some(listed.header.unwrap_or_default().revision))
    }

    /// Follows the changes from a revision on. Ends with what to tell, or with nothing where a list is all that is needed.
    async fn changes(&mut self, revision: i64) -> Result<Option<String>, Unheard> {
        let range = below(self.client.options.prefix.clone().into_bytes());
        let create = WatchCreateRequest { key: range.key, range_end: range.range_end, start_revision: revision };
        let mut watch = match self.client.watch(create).await {
            Ok(watch) => watch,
            Err(error) => return Ok(Some(format!("etcd cannot be followed: {}: {}", error.advice(), chain(&error)))),
        };
        loop {
            let answer = tokio::select! {
                answer = watch.next() => answer,
                () = time::sleep_until(self.returning.unwrap_or_else(Instant::now)), if self.returning.is_some() => {
                    self.returning = None;
                    let gone = self.view.let_go();
                    self.send(gone).await?;
                    continue;
                }
                () = self.events.closed() => return Err(Unheard),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    // A list is tried next, at another endpoint, and only its failure is trouble.
                    tracing::debug!("the watch of etcd ended: {why}");
                    self.client.drop_connection(watch.connection()).await;
                    return Ok(None);
                }
            };
            for event in answer.events {
                let Some(kv) = event.kv else { continue };
                let told = match event.kind {
                    0 => self.view.written(&kv),
                    _ => Told { events: self.view.deleted(&kv), faults: Vec::new() },
                };
                self.tell(told).await?;
            }
            if !self.view.is_whole() {
                return Ok(Some(format!(
                    "the network configuration at {}config was deleted",
                    self.client.options.prefix
                )));
            }
            if answer.canceled {
                tracing::debug!(
                    compacted = answer.compact_revision,
                    "etcd canceled the watch: {}",
                    answer.cancel_reason
                );
                if answer.compact_revision > 0 {
                    // What lies between is compacted away: a list has all of it.
                    return Ok(None);
                }
                // The token has ended, or the user may not watch. Another connection brings another token.
                self.client.drop_connection(watch.connection()).await;
                return Ok(Some(format!("etcd refuses to tell of changes: {}", answer.cancel_reason)));
            }
        }
    }

    async fn tell_trouble(&mut self, why: String) -> Result<(), Unheard> {
        // Of one sort it is told once, however it goes on: a connection fails in many words.
        let sort = |text: &str| text.split(": ").next().map(str::to_owned);
        if self.trouble.as_deref().is_none_or(|told| sort(told) != sort(&why)) {
            self.send(vec![StoreEvent::Unavailable(why.clone())]).await?;
        }
        self.trouble = Some(why);
        Ok(())
    }

    async fn tell(&mut self, told: Told) -> Result<(), Unheard> {
        for fault in told.faults {
            tracing::warn!("{fault}");
        }
        self.send(told.events).await
    }

    /// Sends what belongs together with no pause between, as far as there is room.
    async fn send(&mut self, events: Vec<StoreEvent>) -> Result<(), Unheard> {
        for events in events.chunks(self.events.max_capacity()) {
            let permits = self.events.reserve_many(events.len()).await.map_err(|_| Unheard)?;
            permits.zip(events).for_each(|(permit, event)| permit.send(event.clone()));
        }
        Ok(())
    }
}

/// Why a list is not there.
enum Interrupted {
    Etcd(CallError),
    Unheard,
}

impl From<Unheard> for Interrupted {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}
