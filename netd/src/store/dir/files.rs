//! The store's files: where they are, how they are read and written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::cause;
use crate::hash::fnv;
use crate::model::{Lease, NodeName};
use crate::store::{StoreError, record};
use crate::whole_file;

/// No lease is this large. What is, is not read.
const LARGEST: u64 = 64 * 1024;

/// How many read the records at once, and how many records make another reader worth its while.
const MOST_READERS: usize = 4;
const WORTH_A_READER: usize = 250;

/// Changes within this time of a file's last one may leave its timestamp as it is.
const TIMESTAMP_STEP: Duration = Duration::from_secs(2);

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
    net_conf: PathBuf,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// When anything about it changed last, which nobody can set (inode(7)): a copy may bring the time of its original with it.
    changed: (i64, i64),
    regular: bool,
}

/// Leases by the names of their files, with what the files were like.
pub(super) type Leases = BTreeMap<String, (Fingerprint, Arc<Lease>)>;

/// Why a node's file is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseFileError {
    /// It could not be read.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// It is no file, or far too large a one.
    #[error("it is no file of a lease's size")]
    Foreign,
    /// Its content is no lease.
    #[error("it is no lease")]
    Content(#[from] record::RecordError),
}

impl Layout {
    pub(super) fn new(dir: PathBuf, net_conf: Option<PathBuf>) -> Self {
        let net_conf = net_conf.unwrap_or_else(|| dir.join("net-conf.json"));
        Self { dir, net_conf }
    }

    /// The store's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder with the nodes' files.
    pub(super) fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The folder with the network configuration.
    pub(super) fn net_conf_folder(&self) -> &Path {
        self.net_conf.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// A node's file.
    pub(super) fn lease(&self, node: &NodeName) -> PathBuf {
        self.nodes().join(format!("{node}.json"))
    }

    pub(super) fn read_net_conf(&self) -> Result<String, StoreError> {
        fs::read_to_string(&self.net_conf).map_err(|error| StoreError::Read {
            object: self.net_conf.display().to_string(),
            advice: r#"it must hold the network configuration, such as {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#,
            source: cause(error),
        })
    }

    pub(super) fn make_folders(&self) -> Result<(), StoreError> {
        whole_file::make_folder(&self.nodes()).map_err(|error| Self::unwritable(&self.nodes(), error))
    }

    pub(super) fn write_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.lease(&lease.node);
        whole_file::write(&path, record::render(lease).as_bytes()).map_err(|error| Self::unwritable(&path, error))
    }

    /// Removes what an earlier run of the node was killed over.
    pub(super) fn sweep_lease(&self, node: &NodeName) {
        whole_file::sweep(&self.lease(node));
    }

    pub(super) fn remove_lease(&self, node: &NodeName) -> Result<(), StoreError> {
        let path = self.lease(node);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Self::unwritable(&path, error)),
            _ => Ok(()),
        }
    }

    fn unwritable(path: &Path, error: io::Error) -> StoreError {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
            _ => "netd must be able to write the store's directory",
        };
        StoreError::Write { object: path.display().to_string(), advice, source: cause(error) }
    }

    /// The node's lease. A file that holds none is told and passed over.
    pub(super) fn read_one(&self, node: &NodeName) -> Option<Lease> {
        let name = format!("{node}.json");
        let lease = self.read_lease(node, self.fingerprint(&name)?);
        lease.inspect_err(|error| tell(&name, error)).ok()
    }

    /// Every node's lease, by its file. A file that holds none is told and passed over.
    pub(super) fn read_leases(&self) -> Result<Leases, StoreError> {
        // A store that no node has written to yet has no folder of nodes.
        let files = match self.list() {
            Err(_) if !self.nodes().exists() && self.nodes().parent().is_some_and(Path::is_dir) => BTreeMap::new(),
            // Or it has got one since.
            files => files.or_else(|_| self.list())?,
        };
        let files: Vec<_> = files.into_iter().collect();
        let readers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_READERS);
        let share = files.len().div_ceil(readers).max(WORTH_A_READER);
        let leases = thread::scope(|scope| {
            let read = |share| scope.spawn(move || self.read_some(share));
            let readers: Vec<_> = files.chunks(share).map(read).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap_or_else(|fault| panic::resume_unwind(fault)))
                .collect()
        });
        let leases: Vec<Vec<_>> = leases;
        Ok(leases.into_iter().flatten().collect())
    }

    fn read_some(&self, files: &[(String, Fingerprint)]) -> Vec<(String, (Fingerprint, Arc<Lease>))> {
        let lease = |(name, fingerprint): &(String, Fingerprint)| {
            let lease = self.read_lease(&node_of(name)?, *fingerprint).inspect_err(|error| tell(name, error)).ok()?;
            Some((name.clone(), (*fingerprint, lease.into())))
        };
        files.iter().filter_map(lease).collect()
    }

    pub(super) fn read_lease(&self, node: &NodeName, fingerprint: Fingerprint) -> Result<Lease, LeaseFileError> {
        if !fingerprint.regular || fingerprint.size > LARGEST {
            return Err(LeaseFileError::Foreign);
        }
        Ok(record::parse(node, &fs::read_to_string(self.lease(node))?)?)
    }

    /// The files in the folder of nodes, without hidden ones: those are being written.
    pub(super) fn list(&self) -> Result<BTreeMap<String, Fingerprint>, StoreError> {
        let nodes = self.nodes();
        let unreadable = |error| StoreError::Read {
            object: nodes.display().to_string(),
            advice: "the store's directory must be there and readable; is it mounted?",
            source: cause(error),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&nodes).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.')
                && let Some(fingerprint) = self.fingerprint(&name)
            {
                files.push((name, fingerprint));
            }
        }
        Ok(files.into_iter().collect())
    }

    /// What a file in the folder of nodes is like now; `None` where there is none.
    pub(super) fn fingerprint(&self, name: &str) -> Option<Fingerprint> {
        match fs::metadata(self.nodes().join(name)) {
            Ok(metadata) => Some(Fingerprint {
                inode: metadata.ino(),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                regular: metadata.is_file(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // A link that leads nowhere good, for one. It is that file's trouble alone.
            Err(_) => Some(Fingerprint { inode: 0, size: 0, modified: (0, 0), changed: (0, 0), regular: false }),
        }
    }
}

impl Fingerprint {
    /// The same as one number.
    pub(super) fn digest(&self) -> u64 {
        let Self { inode, size, modified, changed, regular } = *self;
        let times = [modified.0, modified.1, changed.0, changed.1].map(i64::to_ne_bytes);
        let rest = [inode, size, u64::from(regular)].map(u64::to_ne_bytes);
        fnv(times.as_flattened()) ^ fnv(rest.as_flattened()).rotate_left(1)
    }

    /// True where any later change of the file gives it another fingerprint. A clock that was set back leaves it false for a
    /// while, which only means that the file is read again.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        since > changed + TIMESTAMP_STEP
    }
}

/// The node whose file has this name; `None` for a foreign file.
pub(super) fn node_of(name: &str) -> Option<NodeName> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Tells of a file that is passed over.
pub(super) fn tell(name: &str, error: &LeaseFileError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(file = name, error, "node file passed over: write it anew or delete it");
}
