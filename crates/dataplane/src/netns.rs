//! Network namespaces, which a program of one thread can visit.

#[cfg(any(test, feature = "fixtures"))]
mod fixtures;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

#[cfg(any(test, feature = "fixtures"))]
pub use fixtures::{create, remove, scratch, within};

/// Why a namespace could not be entered, made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the network namespace {path}")]
pub struct NetnsError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl NetnsError {
    /// True where the path does not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Runs `body` in the namespace at `path` on the calling thread, which then is back in its own.
///
/// Only for a program of one thread, as the plugin is, which can do nothing else meanwhile. A thread of its own would cost 0.1 ms, a
/// tenth of what the plugin takes.
///
/// # Errors
/// Where `path` cannot be opened or is no network namespace.
pub fn visit<T>(path: &Path, body: impl FnOnce() -> T) -> Result<T, NetnsError> {
    let fault = |source| NetnsError { action: "enter", path: path.to_owned(), source };
    let namespace = File::open(path).map_err(fault)?;
    let _home = Home(File::open("/proc/thread-self/ns/net").map_err(fault)?);
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| fault(errno.into()))?;
    Ok(body())
}

/// The thread's own namespace, to which it returns when this is dropped.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        // In the wrong namespace the next request would change another machine, as it were.
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}
