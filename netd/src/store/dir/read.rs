//! The nodes' files, read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::libc::O_NONBLOCK;

use super::cause;
use super::files::Layout;
use super::fingerprint::Fingerprint;
use crate::model::{Lease, NodeName};
use crate::store::{StoreError, record};

/// No lease is this large. What is, is not read.
const LARGEST: u64 = 64 * 1024;

/// How many read the records at once, and how many records make another reader worth its while.
const MOST_READERS: usize = 4;
const WORTH_A_READER: usize = 250;

/// A node's file as it was read.
#[derive(Debug)]
pub(super) struct Read {
    /// What the file was like, no later than its content.
    pub(super) fingerprint: Fingerprint,
    /// The lease in it.
    pub(super) lease: Result<Arc<Lease>, LeaseFileError>,
}

/// What was read, by the files' names.
pub(super) type Reads = BTreeMap<String, Read>;

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
    /// The node's lease. A file that holds none is told and passed over.
    pub(super) fn read_one(&self, node: &NodeName) -> Option<Lease> {
        let name = format!("{node}.json");
        let lease = self.read(&name)?.lease.inspect_err(|error| tell(&name, error)).ok()?;
        Some(Arc::unwrap_or_clone(lease))
    }

    /// Every node's file.
    pub(super) fn read_all(&self) -> Result<Reads, StoreError> {
        // A store that no node has written to yet has no folder of nodes.
        let names = match self.names() {
            Err(_) if !self.nodes().exists() && self.nodes().parent().is_some_and(Path::is_dir) => BTreeSet::new(),
            // Or it has got one since.
            names => names.or_else(|_| self.names())?,
        };
        let names: Vec<_> = names.into_iter().collect();
        let readers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_READERS);
        let share = names.len().div_ceil(readers).max(WORTH_A_READER);
        let reads = thread::scope(|scope| {
            let read = |share| scope.spawn(move || self.read_some(share));
            let readers: Vec<_> = names.chunks(share).map(read).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap_or_else(|fault| panic::resume_unwind(fault)))
                .collect::<Vec<_>>()
        });
        Ok(names.into_iter().zip(reads.into_iter().flatten()).filter_map(|(name, read)| Some((name, read?))).collect())
    }

    fn read_some(&self, names: &[String]) -> Vec<Option<Read>> {
        names.iter().map(|name| self.read(name)).collect()
    }

    /// A file in the folder of nodes; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Option<Read> {
        // What is no file, such as a pipe without a writer, must not be waited for.
        let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(self.nodes().join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Read { fingerprint: self.fingerprint(name)?, lease: Err(error.into()) }),
        };
        let metadata = match file.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Some(Read { fingerprint: Fingerprint::NONE, lease: Err(error.into()) }),
        };
        let fingerprint = Fingerprint::from(&metadata);
        if !fingerprint.regular || metadata.len() > LARGEST {
            return Some(Read { fingerprint, lease: Err(LeaseFileError::Foreign) });
        }
        let mut text = String::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 64);
        let lease = match (file.take(LARGEST).read_to_string(&mut text), node_of(name)) {
            (Err(error), _) => Err(error.into()),
            (_, None) => Err(LeaseFileError::Foreign),
            (Ok(_), Some(node)) => record::parse(&node, &text).map(Arc::new).map_err(LeaseFileError::from),
        };
        Some(Read { fingerprint, lease })
    }

    /// What the files in the folder of nodes are like now.
    pub(super) fn list(&self) -> Result<BTreeMap<String, Fingerprint>, StoreError> {
        Ok(self
            .names()?
            .into_iter()
            .filter_map(|name| Some((self.fingerprint(&name)?, name)))
            .map(|(fingerprint, name)| (name, fingerprint))
            .collect())
    }

    /// The names of the files in the folder of nodes, without hidden ones: those are being written.
    fn names(&self) -> Result<BTreeSet<String>, StoreError> {
        let nodes = self.nodes();
        let unreadable = |error| StoreError::Read {
            object: nodes.display().to_string(),
            advice: "the store's directory must be there and readable; is it mounted?",
            source: cause(error),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&nodes).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    /// What a file in the folder of nodes is like now; `None` where there is none.
    pub(super) fn fingerprint(&self, name: &str) -> Option<Fingerprint> {
        match fs::metadata(self.nodes().join(name)) {
            Ok(metadata) => Some(Fingerprint::from(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // A link that leads nowhere good, for one. It is that file's trouble alone.
            Err(_) => Some(Fingerprint::NONE),
        }
    }
}

/// The node whose file has this name; `None` for a foreign file.
fn node_of(name: &str) -> Option<NodeName> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Tells of a file that is passed over.
pub(super) fn tell(name: &str, error: &LeaseFileError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(file = name, error, "node file passed over: write it anew or delete it");
}
