//! A file's metadata as a fingerprint: tells whether the file's content may have changed, without reading the file.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use network::hash::fnv;

use super::files::Layout;

/// The coarsest timestamp of a file system: two changes within this time may leave the same timestamp.
pub(super) const TIMESTAMP_STEP: Duration = Duration::from_secs(2);

/// The metadata by which two versions of a file differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// A hash of the inode, the size, the type and both timestamps.
    pub(super) digest: u64,
    /// The seconds of the last change of content or metadata (ctime in inode(7)). No program can set the ctime, whereas a copy may
    /// keep the mtime of the original.
    changed: i64,
    pub(super) regular: bool,
}

impl From<&Metadata> for Fingerprint {
    fn from(metadata: &Metadata) -> Self {
        let (changed, regular) = (metadata.ctime(), metadata.is_file());
        let times = [metadata.mtime(), metadata.mtime_nsec(), changed, metadata.ctime_nsec()].map(i64::to_ne_bytes);
        let rest = [metadata.ino(), metadata.size(), u64::from(regular)].map(u64::to_ne_bytes);
        let digest = fnv(times.as_flattened()) ^ fnv(rest.as_flattened()).rotate_left(1);
        Self { digest, changed, regular }
    }
}

impl Fingerprint {
    /// The fingerprint of a file whose metadata cannot be read.
    pub(super) const UNREADABLE: Self = Self { digest: 0, changed: 0, regular: false };

    /// True where any later change of the file gives it another fingerprint. False for as long as the wall clock is behind the
    /// file's ctime.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed).unwrap_or(0));
        since > changed + TIMESTAMP_STEP
    }
}

impl Layout {
    /// The current fingerprint of a file in the directory of nodes; `None` where the file does not exist.
    pub(super) fn fingerprint(&self, name: &str) -> Option<Fingerprint> {
        match fs::metadata(self.nodes_dir().join(name)) {
            Ok(metadata) => Some(Fingerprint::from(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Such as a broken symbolic link. Only this one file is affected.
            Err(_) => Some(Fingerprint::UNREADABLE),
        }
    }
}
