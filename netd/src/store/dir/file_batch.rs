//! Reads the nodes' files as bytes, in batches, on a thread of its own. The caller parses the bytes.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use network::record;

use super::files::Layout;
use super::fingerprint::Fingerprint;
use crate::whole_file::{self, LARGEST};

/// How many files a batch holds.
const BATCH: usize = 64;

/// The buffer space that a batch reserves for each file: most files are shorter.
const TYPICAL: usize = 768;

/// How many batches may wait for the parser.
const AHEAD: usize = 4;

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

/// Files that were read into one buffer, one behind the other.
#[derive(Debug, Default)]
pub(super) struct FileBatch {
    buffer: Vec<u8>,
    files: Vec<(String, Entry)>,
}

/// One file of a batch: its fingerprint, and where its content is in the buffer.
type Entry = (Fingerprint, Result<Range<usize>, LeaseFileError>);

/// A file's fingerprint, taken no later than the content, and the content.
pub(super) type RawFile<'b> = (Fingerprint, Result<&'b [u8], LeaseFileError>);

impl FileBatch {
    /// Adds the file of this name, if there is one. `dir` is the path of the directory of nodes.
    pub(super) fn read(&mut self, layout: &Layout, dir: &mut PathBuf, name: String) {
        dir.push(&name);
        let entry = self.read_entry(layout, dir, &name);
        dir.pop();
        self.files.extend(entry.map(|entry| (name, entry)));
    }

    fn read_entry(&mut self, layout: &Layout, path: &Path, name: &str) -> Option<Entry> {
        let (file, metadata) = match whole_file::open(path, LARGEST) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some((layout.fingerprint(name)?, Err(error.into()))),
        };
        let fingerprint = Fingerprint::from(&metadata);
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let start = self.buffer.len();
        let content = append(&file, size, &mut self.buffer).map(|()| start..self.buffer.len());
        Some((fingerprint, content.map_err(LeaseFileError::from)))
    }

    /// Passes each file to `handle`.
    pub(super) fn for_each(self, mut handle: impl FnMut(String, RawFile<'_>)) {
        for (name, (fingerprint, content)) in self.files {
            handle(name, (fingerprint, content.map(|range| &self.buffer[range])));
        }
    }
}

/// Appends a file of about `size` bytes to the buffer, at most [`record::LARGEST`] bytes.
fn append(mut file: &File, size: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = buffer.len();
    buffer.resize(start + size + 1, 0);
    let read = file.read(&mut buffer[start..])?;
    buffer.truncate(start + read);
    // A file of the expected size needs no second read(2).
    if read == size {
        return Ok(());
    }
    let left = record::LARGEST.saturating_sub(read);
    file.take(u64::try_from(left).unwrap_or_default()).read_to_end(buffer).map(drop)
}

impl Layout {
    /// Reads the files of these names on a second thread while `handle` parses the files that are read already. The threads exchange
    /// whole batches: with an allocation per file they would contend in the allocator, at a higher cost than the gain of a second
    /// thread (measured with 5,000 files).
    pub(super) fn read_files(
        &self,
        names: impl Iterator<Item = String> + Send,
        mut handle: impl FnMut(String, RawFile<'_>),
    ) {
        let (sender, receiver) = sync_channel(AHEAD);
        thread::scope(|scope| {
            scope.spawn(move || self.read_batches(names, &sender));
            for batch in receiver {
                batch.for_each(&mut handle);
            }
        });
    }

    fn read_batches(&self, names: impl Iterator<Item = String>, sender: &SyncSender<FileBatch>) {
        let (mut names, mut dir) = (names.peekable(), self.nodes_dir());
        while names.peek().is_some() {
            let (buffer, files) = (Vec::with_capacity(TYPICAL * BATCH), Vec::with_capacity(BATCH));
            let mut batch = FileBatch { buffer, files };
            names.by_ref().take(BATCH).for_each(|name| batch.read(self, &mut dir, name));
            if sender.send(batch).is_err() {
                return;
            }
        }
    }
}
