//! The file of the status socket: one running daemon at a time has it; the file of a killed daemon is replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;

use crate::access_error::Cause;
use crate::lock::{self, Lock};
use crate::whole_file;

/// How long another daemon may take to open its socket.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another daemon answers on it.
    #[error(
        "another netd answers on {}: stop it first, or give this one a --subnet-file (or --status-socket) of its own", .0.display()
    )]
    Alive(PathBuf),
    /// The file is no socket.
    #[error("{} is no socket: netd status cannot ask this netd; remove the file, or choose another by --status-socket", .0.display())]
    NoSocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {}: netd status cannot ask this netd; choose another file by --status-socket", .0.display())]
    Make(PathBuf, #[source] Cause),
}

/// The file of our socket. Dropping the claim removes the file.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Device and inode: another daemon may have replaced the file meanwhile. No other file gets this inode while the listener lives, so
    /// the claim is dropped before the listener.
    file: (u64, u64),
}

impl Claim {
    /// Listens on `path`, mode 0600. The file of a killed daemon is replaced.
    pub async fn take(path: &Path) -> Result<(Self, UnixListener), ClaimError> {
        let failed = |source: io::Error| ClaimError::Make(path.to_owned(), source.into());
        whole_file::make_folder(folder(path)).map_err(failed)?;
        // If two daemons start at once, the second must see the first's socket.
        let _lock = lock(path).await?;
        remove_dead(path)?;
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(failed)?;
        let file = identity(path).map_err(failed)?;
        Ok((Self { path: path.to_owned(), file }, listener))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Ok(Some(_lock)) = lock::try_take(&lock_file(&self.path), HOLDER) else { return };
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // The next daemon replaces a file that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the file of a killed daemon.
///
/// # Errors
/// If the file cannot be removed, or a daemon answers on it.
pub async fn remove_stale(path: &Path) -> Result<bool, ClaimError> {
    if !folder(path).is_dir() {
        return Ok(false);
    }
    let _lock = lock(path).await?;
    remove_dead(path)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The holder in the lock file.
const HOLDER: &str = "netd";

fn lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

async fn lock(path: &Path) -> Result<Lock, ClaimError> {
    let lock = lock::take(&lock_file(path), HOLDER, LOCK_TIMEOUT).await;
    lock.map_err(|error| ClaimError::Make(path.to_owned(), error.into()))
}

/// Removes the file, unless a daemon answers on it. True if there was one.
fn remove_dead(path: &Path) -> Result<bool, ClaimError> {
    let is_other = fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket());
    let path = path.to_owned();
    if is_other {
        return Err(ClaimError::NoSocket(path));
    }
    match UnixStream::connect(&path).map(drop) {
        Ok(()) => return Err(ClaimError::Alive(path)),
        Err(error) if is_dead(&error) => {}
        Err(source) => return Err(ClaimError::Make(path, source.into())),
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ClaimError::Make(path, source.into())),
    }
}

/// True if nobody listens.
pub(super) fn is_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
