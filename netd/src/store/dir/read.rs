//! The nodes' files, read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use network::model::{Lease, NodeName};
use network::record;

use super::cause;
use super::files::Layout;
use super::fingerprint::Fingerprint;
use super::texts::{Found, Texts};
use crate::store::StoreError;

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
        let mut reads = Reads::new();
        let read = self.read_texts(names.into_iter(), |name, found| {
            let read = understood(&name, found);
            reads.insert(name, read);
        });
        match read {
            // Whatever could be listed and is gone since, is gone.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(&self.nodes(), error)),
            _ => Ok(reads),
        }
    }

    /// A file in the folder of nodes; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Option<Read> {
        let mut texts = Texts::default();
        match File::open(self.nodes()) {
            Ok(folder) => texts.read(self, &folder, name.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Some(Read { fingerprint: self.fingerprint(name)?, lease: Err(error.into()) }),
        }
        let mut read = None;
        texts.into_each(|name, found| read = Some(understood(&name, found)));
        read
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
        let unreadable = |error| unreadable(&nodes, error);
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

fn unreadable(nodes: &Path, error: io::Error) -> StoreError {
    StoreError::Read {
        object: nodes.display().to_string(),
        advice: "the store's directory must be there and readable; is it mounted?",
        source: cause(error),
    }
}

/// A file's text as the lease that it should be.
fn understood(name: &str, (fingerprint, text): Found<'_>) -> Read {
    let parsed = |text: &[u8]| {
        let node = node_of(name).ok_or(LeaseFileError::Foreign)?;
        let text = str::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(record::parse(&node, text)?.into())
    };
    Read { fingerprint, lease: text.and_then(parsed) }
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
