//! The kernel's notifications about the store's directories (inotify(7)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future;

use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

use crate::store::dir::files::Layout;

/// How many notifications are combined. A longer burst is handled in several steps.
const BURST: usize = 4096;

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// Everything.
    All,
    /// The network configuration and the nodes' files of these names.
    Names(BTreeSet<String>),
}

/// The inotify watches. Where inotify is not available, only the watcher's poll sees changes.
#[derive(Debug)]
pub(super) struct Notifications {
    stream: Option<EventStream<Vec<u8>>>,
    nodes: Option<WatchDescriptor>,
}

impl Notifications {
    /// Watches nothing yet. Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let stream = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 16 * 1024]));
        if let Err(error) = &stream {
            tracing::warn!(
                %error,
                "no notifications about the store's files, so changes are seen at the next poll: \
                 raise the sysctl fs.inotify.max_user_instances"
            );
        }
        Self { stream: stream.ok(), nodes: None }
    }

    /// Watches the directories that exist now. Watching a directory again changes nothing; a missing one is left to the next call.
    pub(super) fn watch(&mut self, layout: &Layout) {
        let Some(stream) = &self.stream else { return };
        let mut watches = stream.watches();
        let entries = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        let removed = WatchMask::MOVED_FROM | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        for dir in [&layout.dir, layout.net_conf_dir()] {
            let _ = watches.add(dir, entries | removed);
        }
        // Without CREATE: a file that was just created is still empty.
        let files = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        let nodes = watches.add(layout.nodes_dir(), files | removed).ok();
        if let Some(old) = self.nodes.take().filter(|old| Some(old) != nodes.as_ref()) {
            // The directory was replaced. The kernel may have removed the old one's watch already.
            let _ = watches.remove(old);
        }
        self.nodes = nodes;
    }

    /// Waits for the next change. Cancellation loses no notification.
    pub(super) async fn next(&mut self, layout: &Layout) -> Changed {
        let (mut names, mut any) = (BTreeSet::new(), false);
        for _ in 0..BURST {
            let Some(stream) = &mut self.stream else { return future::pending().await };
            let event = match stream.next().now_or_never() {
                Some(event) => event,
                None if any => break,
                None => stream.next().await,
            };
            match event {
                Some(Ok(event)) => match changed(&event, self.nodes.as_ref(), layout) {
                    Some(Changed::All) => return Changed::All,
                    Some(Changed::Names(more)) => {
                        names.extend(more);
                        any = true;
                    }
                    None => {}
                },
                ended => {
                    let error = ended.and_then(Result::err);
                    tracing::warn!(?error, "notifications about the store's files ended: changes are seen by polling");
                    self.stream = None;
                    return Changed::All;
                }
            }
        }
        Changed::Names(names)
    }
}

/// What a notification says may have changed; `None` for a file that is not the store's.
fn changed(event: &Event<OsString>, nodes: Option<&WatchDescriptor>, layout: &Layout) -> Option<Changed> {
    let whole_dir = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
    if event.mask.intersects(whole_dir) {
        return Some(Changed::All);
    }
    let name = event.name.as_deref()?;
    if nodes == Some(&event.wd) {
        let name = name.to_string_lossy();
        return (!name.starts_with('.')).then(|| Changed::Names(BTreeSet::from([name.into_owned()])));
    }
    if Some(name) == layout.nodes_dir().file_name() {
        return Some(Changed::All);
    }
    // The network configuration may be a symbolic link through another name (`..data` of a mounted ConfigMap), so a change of any
    // name counts, except of the store's lock file.
    let is_foreign = Some(name) == layout.lock_file().file_name() || event.mask.contains(EventMask::CREATE);
    (!is_foreign).then(|| Changed::Names(BTreeSet::new()))
}
