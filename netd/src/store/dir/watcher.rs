//! Watches the store's files by inotify(7), and by a slow poll where the kernel sends no notifications (shared mounts).

mod notifications;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use network::chain;
use network::model::{Lease, NodeName};
use tokio::sync::mpsc;
use tokio::{task, time};

use self::notifications::{Changed, Notifications};
use super::files::{Layout, file_name};
use super::lease_file::{self, LeaseFile, LeaseFileError, LeaseFiles};
use crate::store::{StoreError, StoreEvent, send};

/// How long a file must be missing before its node counts as gone: while `rm -r` or umount(8) takes the whole store away, the nodes
/// must not seem to leave one by one.
const GONE_AFTER: Duration = Duration::from_millis(500);

/// How soon an unavailable store is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The files as they were read before the watch began, and the notifications about what has changed since.
#[derive(Debug)]
pub(super) struct FirstRead {
    notifications: Notifications,
    /// None where they are still to be read.
    pub(super) files: Option<LeaseFiles>,
}

impl FirstRead {
    /// Begins the notifications; nothing is read yet. Must be called within a tokio runtime.
    pub(super) fn new(layout: &Layout) -> Self {
        let mut notifications = Notifications::new();
        notifications.watch(layout);
        Self { notifications, files: None }
    }
}

/// Watches the files until the receiver is dropped.
pub(super) fn start(
    layout: Layout,
    poll: Duration,
    own: Option<&NodeName>,
    first: FirstRead,
) -> mpsc::Receiver<StoreEvent> {
    let (events, receiver) = mpsc::channel(1024);
    let FirstRead { notifications, files } = first;
    task::spawn(run(WatchedFiles::new(layout, poll, own, files), notifications, events));
    receiver
}

async fn run(mut state: WatchedFiles, mut notifications: Notifications, events: mpsc::Sender<StoreEvent>) {
    let poll = state.poll;
    let mut changed = Changed::All;
    let mut next_poll = Instant::now() + poll;
    loop {
        if changed == Changed::All {
            // The watches must exist before the files are read: changes during the read are notified then.
            notifications.watch(&state.layout);
            next_poll = Instant::now() + poll;
        }
        let updated = task::spawn_blocking(move || {
            let sent = state.update(&changed, Instant::now());
            (state, sent)
        });
        let Ok((returned, sent)) = updated.await else { return };
        state = returned;
        if send(&events, sent).await.is_err() {
            return;
        }
        let due = state.due().map_or(next_poll, |due| due.min(next_poll));
        changed = tokio::select! {
            () = events.closed() => return,
            changed = notifications.next(&state.layout) => changed,
            () = time::sleep_until(due.into()) => {
                if due < next_poll && !state.is_unavailable() { Changed::Names(BTreeSet::new()) } else { Changed::All }
            }
        };
    }
}

/// The last state of a node's file.
#[derive(Default)]
struct FileState {
    /// The last valid lease of the file; it counts while the content is invalid.
    lease: Option<Arc<Lease>>,
    /// What is wrong with the content, as it was logged.
    fault: Option<String>,
}

/// The store's files as last reported.
struct WatchedFiles {
    layout: Layout,
    poll: Duration,
    /// The file name of this daemon's node.
    own: Option<String>,
    /// For the first list: the files as they were read already.
    first: Option<LeaseFiles>,
    files: BTreeMap<String, FileState>,
    /// Missing files, and when their nodes count as gone.
    missing: BTreeMap<String, Instant>,
    net_conf: Option<String>,
    listed: bool,
    /// While the store is unavailable: when to try again.
    retry: Option<Instant>,
    /// The store was unavailable. At the next list, missing files get a whole poll interval to come back.
    was_unavailable: bool,
}

impl WatchedFiles {
    fn new(layout: Layout, poll: Duration, own: Option<&NodeName>, first: Option<LeaseFiles>) -> Self {
        Self {
            layout,
            poll,
            own: own.map(file_name),
            first,
            files: BTreeMap::new(),
            missing: BTreeMap::new(),
            net_conf: None,
            listed: false,
            retry: None,
            was_unavailable: false,
        }
    }

    fn is_unavailable(&self) -> bool {
        self.retry.is_some()
    }

    /// When the next update is due without a notification.
    fn due(&self) -> Option<Instant> {
        self.missing.values().copied().chain(self.retry).min()
    }

    /// Reads what may have changed; gives the events that result.
    fn update(&mut self, changed: &Changed, now: Instant) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        let net_conf = self.update_net_conf(&mut events);
        let nodes = match changed {
            Changed::Names(names) if self.listed && !self.is_unavailable() => {
                self.update_names(names, now, &mut events)
            }
            _ => self.update_all(now, &mut events),
        };
        match nodes.and(net_conf) {
            Ok(()) => {
                if self.retry.take().is_some() {
                    events.insert(0, StoreEvent::Available);
                }
            }
            Err(error) => {
                if self.retry.replace(now + RETRY.min(self.poll)).is_none() {
                    events.push(StoreEvent::Unavailable(chain(&error)));
                }
            }
        }
        events
    }

    fn update_net_conf(&mut self, events: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        let text = self.layout.read_net_conf()?;
        if self.net_conf.as_ref() != Some(&text) {
            events.push(StoreEvent::NetConf(text.clone()));
            self.net_conf = Some(text);
        }
        Ok(())
    }

    /// The first list.
    fn list(&mut self, events: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        let files = self.first.take().map_or_else(|| self.layout.read_all(), Ok)?;
        events.reserve(files.len() + 2);
        events.push(StoreEvent::Init);
        for (name, file) in files {
            self.take_file(name, file, events);
        }
        events.push(StoreEvent::InitDone);
        self.listed = true;
        Ok(())
    }

    fn update_all(&mut self, now: Instant, events: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        if !self.listed {
            return self.list(events);
        }
        let files = self.layout.read_files().inspect_err(|_| {
            self.was_unavailable = true;
            // The whole store is missing, which says nothing about single nodes.
            self.missing.clear();
        })?;
        let gone_after = if self.was_unavailable { self.poll.max(GONE_AFTER) } else { GONE_AFTER };
        self.was_unavailable = false;
        let missing: Vec<String> = self.files.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        for name in missing {
            self.file_is_missing(&name, now, gone_after, events);
        }
        for (name, file) in files {
            self.take_file(name, file, events);
        }
        Ok(())
    }

    fn update_names(
        &mut self,
        names: &BTreeSet<String>,
        now: Instant,
        events: &mut Vec<StoreEvent>,
    ) -> Result<(), StoreError> {
        let due = self.missing.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone());
        let names: BTreeSet<String> = names.iter().cloned().chain(due).collect();
        let found: Vec<_> = names.into_iter().map(|name| (self.layout.read(&name), name)).collect();
        if found.iter().any(|(file, _)| file.is_none()) && !self.layout.nodes_dir().is_dir() {
            return self.update_all(now, events);
        }
        for (file, name) in found {
            match file {
                Some(file) => self.take_file(name, file, events),
                None => self.file_is_missing(&name, now, GONE_AFTER, events),
            }
        }
        Ok(())
    }

    /// A file does not exist. Its node counts as gone once the file has been missing for `gone_after`.
    fn file_is_missing(&mut self, name: &str, now: Instant, gone_after: Duration, events: &mut Vec<StoreEvent>) {
        if !self.files.contains_key(name) || *self.missing.entry(name.to_owned()).or_insert(now + gone_after) > now {
            return;
        }
        if self.is_emptied() && self.own.as_deref() != Some(name) {
            self.missing.insert(name.to_owned(), now + self.poll.max(GONE_AFTER));
            return;
        }
        self.missing.remove(name);
        let Some(state) = self.files.remove(name) else { return };
        if state.fault.is_some() {
            events.push(StoreEvent::Fault(lease_file::title(name), None));
        }
        if let Some(lease) = state.lease {
            events.push(StoreEvent::Removed(lease.node.clone()));
        }
    }

    /// True where every file is missing: the store has lost its files, and the nodes still exist. Each node, this one too, writes its
    /// file again as soon as it notices.
    fn is_emptied(&self) -> bool {
        self.own.is_some() && self.missing.len() == self.files.len()
    }

    /// Takes a file that was read. Reports a changed lease; logs an invalid content once.
    fn take_file(&mut self, name: String, file: LeaseFile, events: &mut Vec<StoreEvent>) {
        self.missing.remove(&name);
        let mut state = self.files.remove(&name).unwrap_or_default();
        match file {
            Ok(lease) => {
                if state.lease.as_ref() != Some(&lease) {
                    events.push(StoreEvent::Lease(Arc::clone(&lease)));
                    state.lease = Some(lease);
                }
                if state.fault.take().is_some() {
                    events.push(StoreEvent::Fault(lease_file::title(&name), None));
                }
            }
            Err(error) => {
                // The same fault in a rewritten file is not logged again.
                let text = chain(&error);
                if state.fault.as_ref() != Some(&text) {
                    if matches!(error, LeaseFileError::Foreign) {
                        lease_file::log_skipped(&name, &error);
                    } else {
                        events.push(StoreEvent::Fault(lease_file::title(&name), Some(text.clone())));
                    }
                    state.fault = Some(text);
                }
            }
        }
        self.files.insert(name, state);
    }
}
