//! The kernel's notifications about the store's directories (inotify(7)).

use std::collections::BTreeSet;
use std::future;
use std::io;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::unix::AsyncFd;

use super::Changed;
use crate::store::dir::files::Layout;

/// Notifications, as far as the kernel gives any: without them the poll remains.
pub(super) struct Notifications {
    inotify: Option<AsyncFd<Inotify>>,
    nodes: Option<WatchDescriptor>,
}

impl Notifications {
    pub(super) fn new() -> Self {
        let inotify = Inotify::init().and_then(AsyncFd::register);
        if let Err(error) = &inotify {
            tracing::warn!(
                %error,
                "no notifications about the store's files, so changes are seen at the next poll: \
                 raise the sysctl fs.inotify.max_user_instances"
            );
        }
        Self { inotify: inotify.ok(), nodes: None }
    }

    /// Watches the directories that are there now. Watching one again changes nothing; one that is missing is left to the next call.
    pub(super) fn watch(&mut self, layout: &Layout) {
        let Some(inotify) = &self.inotify else { return };
        let mut watches = inotify.get_ref().watches();
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

    /// Waits for something to change.
    pub(super) async fn next(&mut self, layout: &Layout) -> Changed {
        loop {
            let (Some(inotify), nodes) = (&mut self.inotify, self.nodes.as_ref()) else {
                return future::pending().await;
            };
            let read = match inotify.readable_mut().await {
                Ok(mut ready) => ready.try_io(|inotify| read(inotify.get_mut(), nodes, layout)),
                Err(error) => Ok(Err(error)),
            };
            match read {
                Ok(Ok(Some(changed))) => return changed,
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "notifications about the store's files ended; the poll remains");
                    self.inotify = None;
                }
            }
        }
    }
}

/// Reads what is notified; `None` where it concerns nobody.
fn read(inotify: &mut Inotify, nodes: Option<&WatchDescriptor>, layout: &Layout) -> io::Result<Option<Changed>> {
    let mut buffer = [0; 16 * 1024];
    let (mut names, mut any) = (BTreeSet::new(), false);
    for event in inotify.read_events(&mut buffer)? {
        match concerns(&event, nodes, layout) {
            Concern::Nothing => {}
            Concern::NetConf => any = true,
            Concern::Node(name) => any |= names.insert(name),
            Concern::All => return Ok(Some(Changed::All)),
        }
    }
    Ok(any.then_some(Changed::Names(names)))
}

enum Concern {
    Nothing,
    NetConf,
    Node(String),
    All,
}

fn concerns(event: &Event<&std::ffi::OsStr>, nodes: Option<&WatchDescriptor>, layout: &Layout) -> Concern {
    let folder_itself = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
    if event.mask.intersects(folder_itself) {
        return Concern::All;
    }
    let Some(name) = event.name else { return Concern::Nothing };
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
