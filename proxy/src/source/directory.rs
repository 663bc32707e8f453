//! A directory of ordinary Kubernetes YAML and JSON, followed for changes: the source for one machine, demos and tests.
//!
//! Every `*.yaml`, `*.yml` and `*.json` counts, with several documents and with `kind: List`. Services, `EndpointSlices`,
//! `ServiceCIDRs` and this node's Node are taken; other kinds are ignored and counted. A file that cannot be read as a
//! whole keeps its last objects, an object that cannot be read keeps its last version. Defaults that the API server would set are set here.

mod contents;
mod files;
mod notifications;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::{task, time};

pub use self::files::Files;
use self::notifications::{Changed, Notifications};
use crate::model::Event;

/// How often the files are polled, for mounts on which the kernel sends no notifications.
pub const POLL: Duration = Duration::from_secs(10);

/// Follows the directory until the receiver is dropped: the events of each change come together. `node` is this node's name. To be called
/// within a tokio runtime.
pub fn follow(dir: PathBuf, node: &str, poll: Duration) -> mpsc::Receiver<Vec<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    let files = Files::new(dir, node);
    task::spawn(run(files, poll, sender));
    receiver
}

async fn run(mut files: Files, poll: Duration, sender: mpsc::Sender<Vec<Event>>) {
    let mut notifications = Notifications::new();
    let mut changed = Changed::All;
    loop {
        if changed == Changed::All {
            // The watch must exist before the files are read: changes during the read are notified then.
            notifications.watch(&files.dir);
        }
        let updated = task::spawn_blocking(move || {
            let events = files.update(&changed, Instant::now());
            (files, events)
        });
        let Ok((returned, events)) = updated.await else { return };
        files = returned;
        if !events.is_empty() && sender.send(events).await.is_err() {
            return;
        }
        let next_poll = Instant::now() + poll;
        let due = files.due().map_or(next_poll, |due| due.min(next_poll));
        changed = tokio::select! {
            () = sender.closed() => return,
            changed = notifications.next() => changed,
            () = time::sleep_until(due.into()) => {
                if due < next_poll && files.is_available() { Changed::Names(BTreeSet::new()) } else { Changed::All }
            }
        };
    }
}

/// True for the name of a file of objects.
fn is_objects(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests;
