//! Objects of one kind as they are and as they change: kube-runtime's watcher, and what it leaves to its user.
//!
//! The list is the beginning of the watch (KEP-3157): the API server answers it from its memory, and one object of it at a time is in
//! ours. An API server that refuses such lists is asked for pages. One that begins such a list and does not end it may only have gone
//! away meanwhile: pages are asked for where that has happened a few times in a row, and only for that list.
//!
//! Added to kube-runtime: waits that grow and obey `Retry-After`, a time limit for lists, one [`WatchEvent::Init`] before each list is
//! asked for, and the [`gate`] in front of the connection.

mod gate;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time;

use self::gate::Gate;
use crate::connection::{PAGE, client};
use crate::{ApiError, ApiServer};

/// How many objects a page has. A Node may have 10 kB, and a page is held three times while it is read.
const PAGE_SIZE: u32 = 200;
/// How long the API server keeps a watch open, in seconds: as long as other clients ask for.
const WATCH: u32 = 480;
/// How many lists in a row may break as the beginning of a watch before one is asked for in pages.
const BROKEN_LISTS: u32 = 3;

/// What happens to the objects that are watched.
#[derive(Debug)]
pub enum WatchEvent<K> {
    /// A whole list is asked for next: an object that is not in it is gone. A list that begins again was never whole.
    Init,
    /// An object is in the list, is new or has changed.
    Object(K),
    /// The list is whole. Ends [`WatchEvent::Trouble`].
    InitDone,
    /// An object is gone.
    Deleted(K),
    /// The objects cannot be watched. The next call tries again after a wait.
    Trouble(ApiError),
    /// The watch goes on where it was: ends [`WatchEvent::Trouble`].
    Recovered,
}

impl<K> WatchEvent<K> {
    /// The same event about what `convert` makes of the object.
    pub fn map<T>(self, convert: impl FnOnce(K) -> T) -> WatchEvent<T> {
        match self {
            Self::Init => WatchEvent::Init,
            Self::Object(object) => WatchEvent::Object(convert(object)),
            Self::InitDone => WatchEvent::InitDone,
            Self::Deleted(object) => WatchEvent::Deleted(convert(object)),
            Self::Trouble(error) => WatchEvent::Trouble(error),
            Self::Recovered => WatchEvent::Recovered,
        }
    }
}

/// Which objects of a kind are watched.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A field selector, like `metadata.name=n1`; empty for all objects.
    pub fields: String,
    /// A label selector, like `app=web,!canary`; empty for all objects. An object that loses its labels is deleted for the watch.
    pub labels: String,
    /// Any number of this node's own: waits and watches of different nodes differ by it, so that not all nodes return at once.
    pub spread: u64,
}

/// Watches the objects of a kind in the whole cluster: in all namespaces where the kind has a namespace.
pub fn watch<K>(server: &ApiServer, selection: Selection) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    Watch::new(server, selection, Api::all)
}

/// Watches the objects of a kind in one namespace.
pub fn watch_namespaced<K>(server: &ApiServer, namespace: &str, selection: Selection) -> Watch<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    Watch::new(server, selection, |client| Api::namespaced(client, namespace))
}

/// A watch. It ends when it is dropped.
pub struct Watch<K> {
    api: Api<K>,
    gate: Arc<Gate>,
    selection: Selection,
    stream: BoxStream<'static, watcher::Result<Event<K>>>,
    phase: Phase,
    /// Whether the API server streams lists: it has not refused one.
    streams_lists: bool,
    /// How many streamed lists have broken since one was whole.
    broken_lists: u32,
    /// The last event but one of success was [`WatchEvent::Trouble`].
    in_trouble: bool,
    /// An event that follows [`WatchEvent::Recovered`].
    deferred: Option<Event<K>>,
    /// The highest version among the objects of the list, then the version of the last event.
    version: u64,
    /// How long to wait before the next request.
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A list must be asked for.
    Begin,
    /// A list is asked for, or is coming.
    Listing {
        /// The API server has begun to answer.
        begun: bool,
    },
    /// The list is whole.
    Watching,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    fn new(server: &ApiServer, selection: Selection, api: impl FnOnce(kube::Client) -> Api<K>) -> Self {
        let gate = Arc::new(Gate::new(server.clone(), selection.spread));
        let sender = Arc::clone(&gate);
        let api = api(client(move |request| {
            let sender = Arc::clone(&sender);
            async move { sender.send(request).await }
        }));
        Self {
            api,
            gate,
            selection,
            stream: futures_util::stream::pending().boxed(),
            phase: Phase::Begin,
            streams_lists: true,
            broken_lists: 0,
            in_trouble: false,
            deferred: None,
            version: 0,
            wait: None,
        }
    }

    /// Waits for the next event. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> WatchEvent<K> {
        loop {
            if let Some(wait) = self.wait {
                time::sleep(wait).await;
                self.wait = None;
            }
            if self.phase == Phase::Begin {
                self.stream = self.list();
                (self.phase, self.version) = (Phase::Listing { begun: false }, 0);
                return WatchEvent::Init;
            }
            let limit = if self.phase == Phase::Watching { Duration::MAX } else { PAGE };
            let event = if let Some(event) = self.deferred.take() {
                Ok(Some(Ok(event)))
            } else {
                tokio::select! {
                    biased;
                    () = self.gate.resumed.notified() => {
                        if std::mem::take(&mut self.in_trouble) {
                            return WatchEvent::Recovered;
                        }
                        continue;
                    }
                    event = time::timeout(limit, self.stream.next()) => event,
                }
            };
            let taken = match event {
                // The resumption and the first change may come at once.
                Ok(Some(Ok(event @ (Event::Apply(_) | Event::Delete(_))))) if self.in_trouble => {
                    (self.in_trouble, self.deferred) = (false, Some(event));
                    Some(WatchEvent::Recovered)
                }
                Ok(Some(Ok(event))) => self.take(event),
                Ok(Some(Err(error))) => self.take_error(error),
                // kube-runtime never ends its stream.
                Ok(None) => self.relist(),
                Err(_) => {
                    self.broken_lists += 1;
                    self.relist();
                    Some(self.trouble(ApiError::Late(limit)))
                }
            };
            if let Some(event) = taken {
                return event;
            }
        }
    }

    /// The version up to which every change is known: the highest of the objects seen, as a number. `None` while a list is under way.
    pub fn version(&self) -> Option<u64> {
        (self.phase == Phase::Watching).then_some(self.version)
    }

    /// Lists all objects again after a wait, for a caller that does not trust the last list.
    pub fn force_relist(&mut self) {
        self.relist();
    }

    fn list(&self) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let spread = u32::try_from(self.selection.spread % 50).unwrap_or_default();
        let mut config = watcher::Config::default().timeout(WATCH + spread * 2).page_size(PAGE_SIZE);
        if !self.selection.fields.is_empty() {
            config = config.fields(&self.selection.fields);
        }
        if !self.selection.labels.is_empty() {
            config = config.labels(&self.selection.labels);
        }
        if self.streams_lists && self.broken_lists < BROKEN_LISTS {
            config = config.streaming_lists();
        }
        self.gate.allow_list();
        watcher::watcher(self.api.clone(), config).boxed()
    }

    fn take(&mut self, event: Event<K>) -> Option<WatchEvent<K>> {
        match event {
            Event::Init => {
                self.phase = Phase::Listing { begun: true };
                None
            }
            Event::InitApply(object) => {
                self.version = self.version.max(version_of(&object));
                Some(WatchEvent::Object(object))
            }
            Event::InitDone => {
                self.phase = Phase::Watching;
                (self.broken_lists, self.in_trouble) = (0, false);
                self.gate.is_listed();
                Some(WatchEvent::InitDone)
            }
            Event::Apply(object) => {
                self.version = version_of(&object);
                self.gate.is_healthy();
                Some(WatchEvent::Object(object))
            }
            Event::Delete(object) => {
                self.version = version_of(&object);
                self.gate.is_healthy();
                Some(WatchEvent::Deleted(object))
            }
        }
    }

    fn take_error(&mut self, error: watcher::Error) -> Option<WatchEvent<K>> {
        if is_of_one_object(&error) {
            tracing::warn!(kind = %K::kind(&()), "an object is left out, since it cannot be read: {error}");
            return None;
        }
        let of_stream = matches!(error, watcher::Error::WatchFailed(_));
        let error = ApiError::from(error);
        let is_listing = self.phase != Phase::Watching;
        match error {
            ApiError::Refused { code: 400 | 422, .. }
                if self.streams_lists && self.phase == (Phase::Listing { begun: false }) =>
            {
                self.streams_lists = false;
                self.stream = self.list();
                None
            }
            // The API server has forgotten the changes since that version; or the gate says that the list has broken.
            ApiError::Refused { code: 410, .. } => {
                self.broken_lists += u32::from(is_listing);
                self.gate.is_expired();
                self.relist()
            }
            // A stream that breaks may only be the end of a connection. The next request shows whether the API server is there.
            ApiError::Transport(_) if of_stream => {
                self.broken_lists += u32::from(is_listing);
                self.gate.is_away();
                if is_listing { self.relist() } else { self.pause(None) }
            }
            error => {
                self.gate.is_away();
                if is_listing || of_stream {
                    self.relist();
                }
                Some(self.trouble(error))
            }
        }
    }

    fn trouble(&mut self, error: ApiError) -> WatchEvent<K> {
        self.in_trouble = true;
        // A resumption before the trouble does not end it.
        let _ = self.gate.resumed.notified().now_or_never();
        self.pause(error.retry_after());
        WatchEvent::Trouble(error)
    }

    fn relist(&mut self) -> Option<WatchEvent<K>> {
        (self.stream, self.deferred) = (futures_util::stream::pending().boxed(), None);
        self.phase = Phase::Begin;
        self.pause(None)
    }

    /// Waits before the next request, longer each time.
    fn pause(&mut self, at_least: Option<Duration>) -> Option<WatchEvent<K>> {
        if self.wait.is_none() {
            self.wait = Some(self.gate.next_wait());
        }
        self.wait = self.wait.max(at_least);
        None
    }
}

/// True where the API server's JSON is well-formed, but is not an object of this kind: the objects after it can be read.
fn is_of_one_object(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchFailed(kube::Error::SerdeError(error)) => error.is_data(),
        // kube-rs takes any JSON object for a Status.
        watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 0,
        _ => false,
    }
}

fn version_of(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
