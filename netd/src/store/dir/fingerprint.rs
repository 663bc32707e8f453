//! What a file is like, without its content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use network::hash::fnv;

/// Changes within this time of a file's last one may leave its timestamp as it is.
pub(super) const TIMESTAMP_STEP: Duration = Duration::from_secs(2);

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// When anything about it changed last, which nobody can set (inode(7)): a copy may bring the time of its original with it.
    changed: (i64, i64),
    pub(super) regular: bool,
}

impl From<&Metadata> for Fingerprint {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            regular: metadata.is_file(),
        }
    }
}

impl Fingerprint {
    /// Of something that cannot even be looked at.
    pub(super) const NONE: Self = Self { inode: 0, size: 0, modified: (0, 0), changed: (0, 0), regular: false };

    /// The same as one number.
    pub(super) fn digest(&self) -> u64 {
        let Self { inode, size, modified, changed, regular } = *self;
        let times = [modified.0, modified.1, changed.0, changed.1].map(i64::to_ne_bytes);
        let rest = [inode, size, u64::from(regular)].map(u64::to_ne_bytes);
        fnv(times.as_flattened()) ^ fnv(rest.as_flattened()).rotate_left(1)
    }

    /// True where any later change of the file gives it another fingerprint. A clock that was set back leaves it false, however
    /// long the file has been as it is.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        since > changed + TIMESTAMP_STEP
    }
}
