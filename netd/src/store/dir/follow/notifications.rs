//! The kernel's notifications about the store's directories (inotify(7)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future;

use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::Changed;
use crate::store::dir::files::Layout;

/// How many notifications are taken together. More changes than this are looked at in several steps.
const TOGETHER: usize = 4096;

/// Notifications, as far as the kernel gives any: without them the poll remains.
#[derive(Debug)]
pub(super) struct Notifications {
    stream: Option<EventStream<Vec<u8>>>,
    nodes: Option<WatchDescriptor>,
}

impl Notifications {
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

    /// Watches the directories that are there now. Watching one again changes nothing; one that is missing is left to the next call.
    pub(super) fn watch(&mut self, layout: &Layout) {
        let Some(stream) = &self.stream else { return };
        let mut watches = stream.watches();
        let around = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        let moved = WatchMask::MOVED_FROM | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        for folder in [layout.dir(), layout.net_conf_folder()] {
            let _ = watches.add(folder, around | moved);
        }
        // Not CREATE: a file that was just made has nothing in it yet.
        let inside = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        let nodes = watches.add(layout.nodes(), inside | moved).ok();
        if let Some(old) = self.nodes.take().filter(|old| Some(old) != nodes.as_ref()) {
            // The folder was replaced; the kernel may have dropped the old one's watch itself.
            let _ = watches.remove(old);
        }
        self.nodes = nodes;
    }

    /// Waits for something to change. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self, layout: &Layout) -> Changed {
        let (mut names, mut any) = (BTreeSet::new(), false);
        for _ in 0..TOGETHER {
            let Some(stream) = &mut self.stream else { return future::pending().await };
            let event = match stream.next().now_or_never() {
                Some(event) => event,
                None if any => break,
                None => stream.next().await,
            };
            match event {
                Some(Ok(event)) => match concerns(&event, self.nodes.as_ref(), layout) {
                    Concern::Nothing => {}
                    Concern::NetConf => any = true,
                    Concern::Node(name) => any |= names.insert(name),
                    Concern::All => return Changed::All,
                },
                ended => {
                    let error = ended.and_then(Result::err);
                    tracing::warn!(?error, "notifications about the store's files ended; the poll remains");
                    self.stream = None;
                    return Changed::All;
                }
            }
        }
        Changed::Names(names)
    }
}

enum Concern {
    Nothing,
    NetConf,
    Node(String),
    All,
}

fn concerns(event: &Event<OsString>, nodes: Option<&WatchDescriptor>, layout: &Layout) -> Concern {
    let folder_itself = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
    if event.mask.intersects(folder_itself) {
        return Concern::All;
    }
    let Some(name) = event.name.as_deref() else { return Concern::Nothing };
    if nodes == Some(&event.wd) {
        let name = name.to_string_lossy();
        return if name.starts_with('.') { Concern::Nothing } else { Concern::Node(name.into_owned()) };
    }
    if Some(name) == layout.nodes().file_name() {
        return Concern::All;
    }
    // The network configuration may be a link that another name decides about (a mounted ConfigMap's `..data`), so any name counts,
    // but for those of the store itself.
    let ours = Some(name) == layout.lock().file_name();
    if ours || event.mask.contains(EventMask::CREATE) { Concern::Nothing } else { Concern::NetConf }
}
