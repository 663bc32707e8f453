//! The store's lock file: only one daemon at a time allocates subnets. Waiting for the lock has a deadline.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use network::model::NodeName;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::{task, time};

use super::files::Layout;
use crate::store::StoreError;

/// The delay between two tries. A blocking flock(2) has no deadline.
const RETRY: Duration = Duration::from_millis(10);

/// Takes the lock for `node`; dropping the lock releases it. Waits up to `limit` for another holder to release it.
pub(super) async fn take(layout: &Layout, node: &NodeName, limit: Duration) -> Result<Flock<File>, StoreError> {
    let path = layout.lock_file();
    let deadline = Instant::now() + limit;
    loop {
        let (of, holder) = (path.clone(), node.clone());
        let tried = task::spawn_blocking(move || try_take(&of, &holder)).await;
        match tried.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if Instant::now() < deadline => time::sleep(RETRY).await,
            Ok(None) => {
                let (lock, holder) = (path.display().to_string(), fs::read_to_string(&path).unwrap_or_default());
                let holder = holder.lines().next().unwrap_or("an unknown process").to_owned();
                return Err(StoreError::Busy { lock, seconds: limit.as_secs(), holder });
            }
            Err(error) => {
                let advice = "netd must be able to write the store's directory";
                return Err(StoreError::write(path.display(), advice, error));
            }
        }
    }
}

/// The lock, or `None` where another process holds it.
fn try_take(path: &Path, node: &NodeName) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    // Between open and flock another daemon may have removed and recreated the file. A lock on the removed file excludes nobody.
    let (ours, there) = (lock.metadata()?, fs::metadata(path));
    if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        return Ok(None);
    }
    // The holder's name is for the error message of other daemons. A full disk must not prevent locking: an allocation may need
    // no new file.
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "node {node}, process {}", std::process::id()));
    Ok(Some(lock))
}
