//! Reads and parses the nodes' files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use network::model::{Lease, NodeName};
use network::record;
use network::text::printable;

use super::files::{Layout, file_name};
use crate::store::StoreError;
use crate::whole_file;

/// How many files are read into one piece of memory, and how many such pieces wait for the parser.
const TOGETHER: usize = 64;
const AHEAD: usize = 4;

/// Most files are shorter.
const USUAL: usize = 768;

/// Why a node's file yields no lease.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseFileError {
    /// The file cannot be read.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// Not a node's file name.
    #[error("its name is not that of a node")]
    Foreign,
    /// The content is no lease.
    #[error("it is no lease")]
    Content(#[from] record::RecordError),
}

/// The lease in a node's file.
pub(super) type LeaseFile = Result<Arc<Lease>, LeaseFileError>;

/// Nodes' files by file name.
pub(super) type LeaseFiles = BTreeMap<String, LeaseFile>;

impl Layout {
    /// The node's lease. A file without a valid lease is logged and counts as none.
    pub(super) fn read_lease(&self, node: &NodeName) -> Option<Lease> {
        let name = file_name(node);
        let lease = self.read(&name)?.inspect_err(|error| log_skipped(&name, error)).ok()?;
        Some(Arc::unwrap_or_clone(lease))
    }

    /// Every node's file; none before the first node has written.
    pub(super) fn read_all(&self) -> Result<LeaseFiles, StoreError> {
        match self.read_files() {
            // Without a node, a store has no directory of nodes.
            Err(_) if !self.nodes_dir().exists() && self.nodes_dir().parent().is_some_and(Path::is_dir) => {
                Ok(LeaseFiles::new())
            }
            // The first node may have created the directory after the failed attempt to list it.
            files => files.or_else(|_| self.read_files()),
        }
    }

    /// The files in the directory of nodes, which must exist. One thread reads while this one parses.
    pub(super) fn read_files(&self) -> Result<LeaseFiles, StoreError> {
        let names = &self.names()?;
        let (sender, texts) = sync_channel(AHEAD);
        thread::scope(|scope| {
            // The receiver stays until the last text.
            let read = move || names.chunks(TOGETHER).all(|names| sender.send(self.read_texts(names)).is_ok());
            let begun = thread::Builder::new().spawn_scoped(scope, read);
            // Without the thread, no file must look like a node that is gone.
            begun.map_err(|error| unreadable(&self.nodes_dir(), error))?;
            Ok(texts.into_iter().flat_map(FileTexts::parse).collect())
        })
    }

    /// A file in the directory of nodes; `None` where there is none of this name.
    pub(super) fn read(&self, name: &str) -> Option<LeaseFile> {
        self.read_texts(&[name.to_owned()]).parse().map(|(_, file)| file).next()
    }

    fn read_texts<'n>(&self, names: &'n [String]) -> FileTexts<'n> {
        let mut texts =
            FileTexts { bytes: Vec::with_capacity(USUAL * names.len()), files: Vec::with_capacity(names.len()) };
        let mut path = self.nodes_dir().join("name");
        for name in names {
            path.set_file_name(name);
            let start = texts.bytes.len();
            let read = whole_file::append(&path, whole_file::LARGEST, &mut texts.bytes);
            texts.files.push((name, read.map(|()| start..texts.bytes.len())));
        }
        texts
    }

    /// The names of the files in the directory of nodes. Hidden files are left out: those are being written.
    fn names(&self) -> Result<Vec<String>, StoreError> {
        let nodes = self.nodes_dir();
        let unreadable = |error| unreadable(&nodes, error);
        let entries = fs::read_dir(&nodes).map_err(unreadable)?;
        let names = entries.map(|entry| Ok(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| !name.as_ref().is_ok_and(|name| name.starts_with('.'))).collect()
    }
}

/// Files as they were read, one behind the other in one piece of memory: two threads that allocate for each file wait for each other.
struct FileTexts<'n> {
    bytes: Vec<u8>,
    /// The files' names and where their texts are.
    files: Vec<(&'n String, io::Result<Range<usize>>)>,
}

impl<'n> FileTexts<'n> {
    /// The leases; none for a file that is gone.
    fn parse(self) -> impl Iterator<Item = (String, LeaseFile)> + use<'n> {
        let Self { bytes, files } = self;
        files.into_iter().filter_map(move |(name, range)| match range {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            range => {
                Some((name.clone(), range.map_err(LeaseFileError::from).and_then(|range| parse(name, &bytes[range]))))
            }
        })
    }
}

fn unreadable(nodes: &Path, error: io::Error) -> StoreError {
    StoreError::read(nodes.display(), "the store's directory must be there and readable; is it mounted?", error)
}

fn parse(name: &str, text: &[u8]) -> LeaseFile {
    let text = str::from_utf8(text).map_err(whole_file::not_utf8)?;
    let node = node_of(name).ok_or(LeaseFileError::Foreign)?;
    Ok(record::parse(&node, text)?.into())
}

/// The node whose file has this name; `None` for a foreign file.
pub(super) fn node_of(name: &str) -> Option<NodeName> {
    name.strip_suffix(".json")?.parse().ok()
}

/// A node's file, for a person.
pub(super) fn title(name: &str) -> String {
    format!("the file nodes/{}", printable(name))
}

/// Logs that a file is skipped, and why.
pub(super) fn log_skipped(name: &str, error: &LeaseFileError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(file = name, error, "node file passed over: write it anew or delete it");
}
