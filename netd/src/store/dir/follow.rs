//! Follows the store's files: the kernel's notifications, and a slow poll where there are none (shared mounts).

mod notifications;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use network::chain;
use network::model::{Lease, NodeName};
use tokio::sync::mpsc;
use tokio::{task, time};

use self::notifications::Notifications;
use super::files::Layout;
use super::fingerprint::{Fingerprint, TIMESTAMP_STEP};
use super::read::{self, Read, Reads};
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
            let told = followed.look(&changed, Now { at: Instant::now(), wall: SystemTime::now() });
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

/// When a look begins, by the clock that never jumps and by the one that files' times are of.
#[derive(Debug, Clone, Copy)]
struct Now {
    at: Instant,
    wall: SystemTime,
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
    /// Since when it has had this fingerprint, as long as another content may come with the same one.
    open: Option<Instant>,
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
    fn look(&mut self, changed: &Changed, now: Now) -> Vec<StoreEvent> {
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
                if self.trouble.replace(now.at + RETRY.min(self.poll)).is_none() {
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
    fn list(&mut self, now: Now, told: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        let read = self.read.take().map_or_else(|| self.layout.read_all(), Ok)?;
        told.reserve(read.len() + 2);
        told.push(StoreEvent::Init);
        for (name, read) in read {
            self.hear(name, read, now, told);
        }
        told.push(StoreEvent::InitDone);
        self.listed = true;
        Ok(())
    }

    fn look_at_all(&mut self, now: Now, told: &mut Vec<StoreEvent>) -> Result<(), StoreError> {
        if !self.listed {
            return self.list(now, told);
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
            self.look_at(name, fingerprint, now, told);
        }
        Ok(())
    }

    fn look_at_names(
        &mut self,
        names: &BTreeSet<String>,
        now: Now,
        told: &mut Vec<StoreEvent>,
    ) -> Result<(), StoreError> {
        let due = self.leaving.iter().filter(|(_, due)| **due <= now.at).map(|(name, _)| name.clone());
        let names: BTreeSet<String> = names.iter().cloned().chain(due).collect();
        let found: Vec<_> = names.into_iter().map(|name| (self.layout.fingerprint(&name), name)).collect();
        if found.iter().any(|(fingerprint, _)| fingerprint.is_none()) && !self.layout.nodes().is_dir() {
            return self.look_at_all(now, told);
        }
        for (fingerprint, name) in found {
            match fingerprint {
                Some(fingerprint) => self.look_at(name, fingerprint, now, told),
                None => self.miss(&name, now, GONE_AFTER, told),
            }
        }
        Ok(())
    }

    /// A file is not there. Its node is gone when that lasts.
    fn miss(&mut self, name: &str, now: Now, patience: Duration, told: &mut Vec<StoreEvent>) {
        if !self.files.contains_key(name) || *self.leaving.entry(name.to_owned()).or_insert(now.at + patience) > now.at
        {
            return;
        }
        if self.is_emptied() && self.own.as_deref() != Some(name) {
            self.leaving.insert(name.to_owned(), now.at + self.poll.max(GONE_AFTER));
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
    fn look_at(&mut self, name: String, fingerprint: Fingerprint, now: Now, told: &mut Vec<StoreEvent>) {
        self.leaving.remove(&name);
        let is_known = |known: &Known| known.open.is_none() && known.fingerprint == fingerprint.digest();
        if self.files.get(&name).is_some_and(is_known) {
            return;
        }
        // Where it was deleted since it was looked at, that is told by itself.
        if let Some(read) = self.layout.read(&name) {
            self.hear(name, read, now, told);
        }
    }

    /// A file was read. Tells its lease if that is another one, and warns once for each content that is none.
    fn hear(&mut self, name: String, read: Read, looked: Now, told: &mut Vec<StoreEvent>) {
        let fingerprint = read.fingerprint.digest();
        let (lease, wrong, since) = match self.files.remove(&name) {
            Some(known) => (known.lease, known.wrong, known.open.filter(|_| known.fingerprint == fingerprint)),
            None => (None, None, None),
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
        let open = (!read.fingerprint.is_settled(looked.wall)).then(|| since.unwrap_or(looked.at));
        // A file whose time has not come yet, since a clock was set back or another machine's is ahead, is not read for ever. Twice
        // the step: a look takes its time, and the file may have changed meanwhile.
        let open = open.filter(|since| looked.at.saturating_duration_since(*since) <= 2 * TIMESTAMP_STEP);
        self.files.insert(name, Known { fingerprint, open, lease, wrong });
    }
}

#[cfg(test)]
mod tests;
