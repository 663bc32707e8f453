//! A watch of a kind that old API servers do not have: those have none of the objects, which is no failure.

use std::fmt::Debug;
use std::time::Duration;

use apiserver::{ApiServer, Selection, Watch, WatchEvent, watch};
use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::time;

/// How long an API server without the kind is left alone: it may be one of several that are being upgraded.
const PAUSE: Duration = Duration::from_mins(10);

pub(super) struct OptionalWatch<K> {
    server: ApiServer,
    watch: Watch<K>,
    /// The API server did not have the kind.
    is_missing: bool,
}

impl<K> OptionalWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub(super) fn new(server: &ApiServer, selection: Selection) -> Self {
        Self { server: server.clone(), watch: watch(server, selection), is_missing: false }
    }

    /// Waits for the next event. An API server without the kind has an empty list.
    pub(super) async fn next(&mut self) -> WatchEvent<K> {
        if std::mem::take(&mut self.is_missing) {
            time::sleep(PAUSE).await;
        }
        loop {
            let event = self.watch.next().await;
            let WatchEvent::Trouble(error) = &event else { return event };
            // An account without the right to read the objects is refused before anybody looks for the kind.
            if !matches!(error.code(), Some(403 | 404)) || self.server.has_kind::<K>().await.unwrap_or(true) {
                return event;
            }
            if self.watch.version().is_none() {
                self.is_missing = true;
                return WatchEvent::InitDone;
            }
            // The kind was there, and went with an older API server: the list that ends what is known begins with an event of its own.
            self.watch.force_relist();
        }
    }
}

#[cfg(test)]
mod tests;
