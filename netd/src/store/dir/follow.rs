//! Follows the store's files: the kernel's notifications, and a slow poll where there are none (shared mounts).

mod notifications;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::{task, time};

use self::notifications::Notifications;
use super::files::Layout;
use super::fingerprint::Fingerprint;
use super::read::{self, Read, Reads};
use crate::model::{Lease, NodeName};
use crate::store::{StoreError, StoreEvent};

/// How long a file must be gone for its node to count as gone: `rm -r` of the whole store, or its unmounting, must not look like every
/// node leaving on its own.
const GONE_AFTER: Duration = Duration::from_millis(500);

/// How often a store in trouble is tried.
const RETRY: Duration = Duration::from_secs(1);

/// A beginning: the files are watched, and may have been read since.
#[derive(Debug)]
pub(super) struct Begun {
    notifications: Notifications,
    pub(super) read: Option<Reads>,
}

impl Begun {
    /// Watches the files from now on. To be called within a tokio runtime.
    pub(super) fn new(layout: &Layout) -> Self {
        let mut notifications = Notifications::new();
        notifications.watch(layout);
        Self { notifications, read: None }
    }
}

/// Follows from a beginning on, until the receiver is dropped.
pub(super) fn start(
    layout: Layout,
    poll: Duration,
    own: Option<&NodeName>,
    begun: Begun,
) -> mpsc::Receiver<StoreEvent> {
    let (events, receiver) = mpsc::channel(1024);
    let followed = Followed::new(layout, poll, own, begun.read);
    task::spawn(follow(followed, begun.notifications, events));
    receiver
}

async fn follow(mut followed: Followed, mut notifications: Notifications, events: mpsc::Sender<StoreEvent>) {
    let poll = followed.poll;
    let mut changed = Changed::All;
    let mut next_poll = Instant::now() + poll;
    loop {
        if changed == Changed::All {
            // Before the files are read: what changes meanwhile is then notified.
            notifications.watch(&followed.layout);
            next_poll = Instant::now() + poll;
        }
        let looked = task::spawn_blocking(move || {
            let told = followed.look(&changed, Instant::now());
            (followed, told)
        });
        let Ok((again, told)) = looked.await else { return };
        followed = again;
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
        let due = followed.due().map_or(next_poll, |due| due.min(next_poll));
        changed = tokio::select! {
            () = events.closed() => return,
            changed = notifications.next(&followed.layout) => changed,
            () = time::sleep_until(due.into()) => {
                if due < next_poll && !followed.in_trouble() { Changed::Names(BTreeSet::new()) } else { Changed::All }
            }
        };
    }
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Changed {
    /// Everything.
    All,
    /// The network configuration and the nodes' files of these names.
    Names(BTreeSet<String>),
}

/// What is known of a node's file.
struct Known {
    fingerprint: u64,
    /// Whether an equal fingerprint means an equal content.
    settled: bool,
    /// The last lease that was in it, still valid while its content is broken.
    lease: Option<Arc<Lease>>,
    /// What is wrong with its content, as it was told.
    wrong: Option<String>,
}

/// The files as last told of.
struct Followed {
    layout: Layout,
    poll: Duration,
    /// The file of the node that this daemon is.
    own: Option<String>,
    files: BTreeMap<String, Known>,
    /// What was read of them since they are watched.
    read: Option<Reads>,
    /// Files that are missing, and when that is to be believed.
    leaving: BTreeMap<String, Instant>,
    net_conf: Option<String>,
    listed: bool,
    /// When to try again; none while all is well.
    trouble: Option<Instant>,
    /// Set by trouble: files that are missing afterwards get a whole poll's time to come back.
    returning: bool,
}

impl Followed {
    fn new(layout: Layout, poll: Duration, own: Option<&NodeName>, read: Option<Reads>) -> Self {
        Self {
            layout,
            poll,
            own: own.map(|node| format!("{node}.json")),
            files: BTreeMap::new(),
            read,
            leaving: BTreeMap::new(),
            net_conf: None,
            listed: false,
            trouble: None,
            returning: false,
        }
    }

    fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// When to look again, if nothing is notified.
    fn due(&self) -> Option<Instant> {
        self.leaving.values().copied().chain(self.trouble).min()
    }

    /// Looks at what may have changed, and tells what did.
    fn look(&mut self, changed: &Changed, now: Instant) -> Vec<StoreEvent> {
        let mut told = Vec::new();
        let net_conf = self.look_at_net_conf(&mut told);
        let nodes = match changed {
            Changed::Names(names) if self.listed && !self.in_trouble() => self.look_at_names(names, now, &mut told),
            _ => self.look_at_all(now, &mut told),
        };
        match nodes.and(net_conf) {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    told.insert(0, StoreEvent::Recovered);
                }
            }
            Err(error) => {
                if self.trouble.replace(now + RETRY.min(self.poll)).is_none() {
                    told.push(StoreEvent::Trouble(chain(&error)));
                }
            }
        }
        told
    }

    fn look_at_net_conf(&mut self, told: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        let text = self.layout.read_net_conf()?;
        if self.net_conf.as_ref() != Some(&text) {
            told.push(StoreEvent::NetConf(text.clone()));
            self.net_conf = Some(text);
        }
        Ok(())
    }

    /// The first look at the nodes' files.
    fn list(&mut self, told: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        let read = self.read.take().map_or_else(|| self.layout.read_all(), Ok)?;
        told.reserve(read.len() + 2);
        told.push(StoreEvent::Init);
        for (name, read) in read {
            self.hear(name, read, told);
        }
        told.push(StoreEvent::InitDone);
        self.listed = true;
        Ok(())
    }

    fn look_at_all(&mut self, now: Instant, told: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        if !self.listed {
            return self.list(told);
        }
        let list = self.layout.list().inspect_err(|_| {
            self.returning = true;
            // They are missing with everything else; nothing can be said about them.
            self.leaving.clear();
        })?;
        let patience = if self.returning { self.poll.max(GONE_AFTER) } else { GONE_AFTER };
        self.returning = false;
        let missing: Vec<String> = self.files.keys().filter(|name| !list.contains_key(*name)).cloned().collect();
        for name in missing {
            self.miss(&name, now, patience, told);
        }
        for (name, fingerprint) in list {
            self.look_at(name, fingerprint, told);
        }
        Ok(())
    }

    fn look_at_names(
        &mut self,
        names: &BTreeSet<String>,
        now: Instant,
        told: &mut Vec<StoreEvent>,
    ) -> Result<(), StoreError> {
        let due = self.leaving.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone());
        let names: BTreeSet<String> = names.iter().cloned().chain(due).collect();
        let found: Vec<_> = names.into_iter().map(|name| (self.layout.fingerprint(&name), name)).collect();
        if found.iter().any(|(fingerprint, _)| fingerprint.is_none()) && !self.layout.nodes().is_dir() {
            return self.look_at_all(now, told);
        }
        for (fingerprint, name) in found {
            match fingerprint {
                Some(fingerprint) => self.look_at(name, fingerprint, told),
                None => self.miss(&name, now, GONE_AFTER, told),
            }
        }
        Ok(())
    }

    /// A file is not there. Its node is gone when that lasts.
    fn miss(&mut self, name: &str, now: Instant, patience: Duration, told: &mut Vec<StoreEvent>) {
        if !self.files.contains_key(name) || *self.leaving.entry(name.to_owned()).or_insert(now + patience) > now {
            return;
        }
        if self.is_emptied() && self.own.as_deref() != Some(name) {
            self.leaving.insert(name.to_owned(), now + self.poll.max(GONE_AFTER));
            return;
        }
        self.leaving.remove(name);
        if let Some(lease) = self.files.remove(name).and_then(|known| known.lease) {
            told.push(StoreEvent::Removed(lease.node.clone()));
        }
    }

    /// True where every file is missing: the store has lost them, and the nodes have not left. Each puts its own back as soon as it
    /// sees that, this one too.
    fn is_emptied(&self) -> bool {
        self.own.is_some() && self.leaving.len() == self.files.len()
    }

    /// A file is there, and is read unless its content is known.
    fn look_at(&mut self, name: String, fingerprint: Fingerprint, told: &mut Vec<StoreEvent>) {
        self.leaving.remove(&name);
        let is_known = |known: &Known| known.settled && known.fingerprint == fingerprint.digest();
        if self.files.get(&name).is_some_and(is_known) {
            return;
        }
        // Where it was deleted since it was looked at, that is told by itself.
        if let Some(read) = self.layout.read(&name) {
            self.hear(name, read, told);
        }
    }

    /// A file was read. Tells its lease if that is another one, and warns once for each content that is none.
    fn hear(&mut self, name: String, read: Read, told: &mut Vec<StoreEvent>) {
        let (lease, wrong) = match self.files.remove(&name) {
            Some(known) => (known.lease, known.wrong),
            None => (None, None),
        };
        let (lease, wrong) = match read.lease {
            Ok(read) if lease.as_ref() == Some(&read) => (lease, None),
            Ok(read) => {
                told.push(StoreEvent::Lease(Arc::clone(&read)));
                (Some(read), None)
            }
            Err(error) => {
                // The same again, written anew, is no news.
                let text = chain(&error);
                if wrong.as_ref() != Some(&text) {
                    read::tell(&name, &error);
                }
                (lease, Some(text))
            }
        };
        let settled = read.fingerprint.is_settled(SystemTime::now());
        self.files.insert(name, Known { fingerprint: read.fingerprint.digest(), settled, lease, wrong });
    }
}

/// An error with its causes, for a person.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
