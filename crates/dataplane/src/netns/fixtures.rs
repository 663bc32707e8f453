//! Namespaces for tests, entered only by a closure on a thread of its own.
//!
//! A thread that has entered a namespace never comes back: it ends with the closure. So no other code can run in
//! the wrong namespace by accident, and nothing has to be restored.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Why a namespace could not be entered, made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the network namespace {path}")]
pub struct NetnsError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The folder in which `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

/// Runs `body` in the namespace at `path` and gives what it returns.
///
/// Sockets that `body` opens, sysctls that it writes under `/proc/sys/net` and processes that it starts belong to that
/// namespace. `/sys` is not switched: it stays that of the mount.
///
/// # Errors
/// Where `path` cannot be opened or is no network namespace.
///
/// # Panics
/// Where `body` does.
pub fn within<T: Send>(path: &Path, body: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let fault = |source| NetnsError { action: "enter", path: path.to_owned(), source };
    let namespace = File::open(path).map_err(fault)?;
    on_own_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| fault(errno.into()))?;
        Ok(body())
    })
}

/// Makes a namespace called `name`, as `ip netns add` does, without a fork.
///
/// # Errors
/// Where the name is taken, or mounting is not permitted.
pub fn create(name: &str) -> Result<PathBuf, NetnsError> {
    let path = Path::new(NAMED).join(name);
    let fault = |source: io::Error| NetnsError { action: "create", path: path.clone(), source };
    std::fs::create_dir_all(NAMED).map_err(fault)?;
    File::create_new(&path).map_err(fault)?;
    let made = on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    if let Err(errno) = made {
        // The name is free again; a failed clean-up would add nothing to the error that matters.
        let _ = std::fs::remove_file(&path);
        return Err(fault(errno.into()));
    }
    Ok(path)
}

/// Removes the name of a namespace; the namespace goes when its last process and socket do.
///
/// # Errors
/// Where there is no such name.
pub fn remove(name: &str) -> Result<(), NetnsError> {
    let path = Path::new(NAMED).join(name);
    let fault = |source| NetnsError { action: "remove", path: path.clone(), source };
    umount2(&path, MntFlags::MNT_DETACH).map_err(|errno| fault(errno.into()))?;
    std::fs::remove_file(&path).map_err(fault)
}

/// Runs `body` in a new, empty namespace and gives what it returns. The namespace goes with the thread and whatever
/// `body` leaves open.
///
/// # Errors
/// Where the process has no `CAP_SYS_ADMIN`: not root, and not in a user namespace of its own (`unshare -Urnm`).
///
/// # Panics
/// Where `body` does.
pub fn scratch<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError {
            action: "create",
            path: PathBuf::from("/proc/thread-self/ns/net"),
            source: errno.into(),
        })?;
        Ok(body())
    })
}

fn on_own_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
