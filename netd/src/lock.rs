//! Lock files of netd's own: no other user can hold one, and each wait for one has a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tokio::{task, time};

use crate::whole_file;

/// The delay between two tries. A blocking flock(2) has no deadline.
const RETRY: Duration = Duration::from_millis(10);

/// A longer wait is logged.
const LONG: Duration = Duration::from_secs(1);

/// A lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has held the lock for too long.
    #[error(
        "{lock} has been locked for {seconds} s: held by {holder}; see whether netd hangs there (its log, or `fuser -v {lock}`) and restart it"
    )]
    Busy {
        /// The lock file.
        lock: String,
        /// How long this process waited for the lock.
        seconds: u64,
        /// Who holds the lock.
        holder: String,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {}: netd must be able to write its directory, and the file may be no symbolic link", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A lock that is held. Dropping it releases it and removes the file.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays is locked by the next one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock for `holder`. Waits up to `limit` for another holder to release it.
pub(crate) async fn take(path: &Path, holder: &str, limit: Duration) -> Result<Lock, LockError> {
    let begun = Instant::now();
    let mut is_logged = false;
    loop {
        let (of, name) = (path.to_owned(), holder.to_owned());
        let tried = task::spawn_blocking(move || try_take(&of, &name)).await;
        match tried.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if begun.elapsed() < limit => {
                if begun.elapsed() > LONG && !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!("waiting for {}, held by {}", path.display(), holder_of(path));
                }
                time::sleep(RETRY).await;
            }
            Ok(None) => {
                let (lock, seconds) = (path.display().to_string(), limit.as_secs());
                return Err(LockError::Busy { lock, seconds, holder: holder_of(path) });
            }
            Err(source) => return Err(LockError::File { path: path.to_owned(), source }),
        }
    }
}

/// The lock, or `None` where another process holds it.
pub(crate) fn try_take(path: &Path, holder: &str) -> io::Result<Option<Lock>> {
    // Another user who could open the file could lock it.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    // Between open and flock another daemon may have removed the file. A lock on the removed file excludes nobody.
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(path));
    if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        return Ok(None);
    }
    // The holder's name is for the messages of other daemons. A full disk must not prevent locking: an allocation may need no new
    // file.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{holder}, process {}", std::process::id()));
    Ok(Some(Lock { path: path.to_owned(), _file: file }))
}

fn holder_of(path: &Path) -> String {
    let text = whole_file::read(path).unwrap_or_default();
    text.lines().next().unwrap_or("an unknown process").to_owned()
}

#[cfg(test)]
mod tests;
