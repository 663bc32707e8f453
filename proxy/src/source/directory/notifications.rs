//! The kernel's notifications about the directory (inotify(7)).

use std::collections::BTreeSet;
use std::future;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

/// How many notifications are combined. A longer burst is handled in several steps.
const BURST: usize = 4096;

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// Everything.
    All,
    /// The files of these names.
    Names(BTreeSet<String>),
}

/// The inotify watch. Where inotify is not available, only the poll sees changes.
pub(super) struct Notifications {
    stream: Option<EventStream<Vec<u8>>>,
    watched: Option<WatchDescriptor>,
    dir: PathBuf,
}

impl Notifications {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let stream = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 16 * 1024]));
        if let Err(error) = &stream {
            tracing::warn!(
                %error,
                "no notifications about the Services' files, so changes are seen at the next poll: \
                 raise the sysctl fs.inotify.max_user_instances"
            );
        }
        Self { stream: stream.ok(), watched: None, dir: PathBuf::new() }
    }

    /// Watches the directory that exists now. Watching it again changes nothing; a missing one is left to the next call.
    pub(super) fn watch(&mut self, dir: &Path) {
        let Some(stream) = &self.stream else { return };
        let mut watches = stream.watches();
        let changes = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::CREATE;
        let removals = WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let new = watches.add(dir, changes | removals | WatchMask::ONLYDIR).ok();
        if let Some(former) = self.watched.take().filter(|former| Some(former) != new.as_ref()) {
            // The directory was replaced. The kernel may have removed the former one's watch already.
            let _ = watches.remove(former);
        }
        self.watched = new;
        dir.clone_into(&mut self.dir);
    }

    /// Waits for the next change. Cancellation loses no notification.
    pub(super) async fn next(&mut self) -> Changed {
        let mut names = BTreeSet::new();
        for _ in 0..BURST {
            let Some(stream) = &mut self.stream else { return future::pending().await };
            let event = match stream.next().now_or_never() {
                Some(event) => event,
                None if !names.is_empty() => break,
                None => stream.next().await,
            };
            let event = match event {
                Some(Ok(event)) => event,
                ended => {
                    let error = ended.and_then(Result::err);
                    tracing::warn!(
                        ?error,
                        "notifications about the Services' files ended: changes are seen by polling"
                    );
                    self.stream = None;
                    return Changed::All;
                }
            };
            let whole = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
            if event.mask.intersects(whole) {
                return Changed::All;
            }
            let Some(name) = event.name.as_deref() else { continue };
            // The files of a mounted ConfigMap are links through `..data`, which is replaced.
            if name.as_encoded_bytes().starts_with(b"..") {
                return Changed::All;
            }
            // A file that was just created is still empty, and is notified again when it is closed. A link is whole at once.
            if event.mask.contains(EventMask::CREATE) && !self.dir.join(name).is_symlink() {
                continue;
            }
            names.extend(name.to_str().filter(|name| super::is_objects(name)).map(str::to_owned));
        }
        Changed::Names(names)
    }
}
