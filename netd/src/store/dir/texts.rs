//! The nodes' files as texts: what is read of them before anybody understands it.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::files::Layout;
use super::fingerprint::Fingerprint;
use super::read::LeaseFileError;

/// No lease is this large. What is, is not read.
const LARGEST: u64 = 64 * 1024;

/// How many files are read into one piece of memory.
const TOGETHER: usize = 64;

/// As long as most of them are, with room for the end.
const USUAL: usize = 768;

/// How many such pieces wait for who understands them.
const AHEAD: usize = 4;

/// Files that were read, one behind the other in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Texts {
    held: Vec<u8>,
    files: Vec<(String, Text)>,
}

/// Where a file's text is, or why it is not there.
#[derive(Debug)]
struct Text {
    /// What the file was like, no later than its content.
    fingerprint: Fingerprint,
    place: Result<Range<usize>, LeaseFileError>,
}

/// A file as it was read: what it was like, no later than its content, and that.
pub(super) type Found<'t> = (Fingerprint, Result<&'t [u8], LeaseFileError>);

impl Texts {
    /// Reads one more; nothing where there is none of this name.
    pub(super) fn read(&mut self, layout: &Layout, folder: impl AsFd, name: String) {
        if let Some(text) = self.text(layout, folder, &name) {
            self.files.push((name, text));
        }
    }

    fn text(&mut self, layout: &Layout, folder: impl AsFd, name: &str) -> Option<Text> {
        // What is no file, such as a pipe without a writer, must not be waited for.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(folder, name, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Text { fingerprint: layout.fingerprint(name)?, place: Err(error.into()) }),
        };
        let metadata = match file.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Some(Text { fingerprint: Fingerprint::NONE, place: Err(error.into()) }),
        };
        let fingerprint = Fingerprint::from(&metadata);
        if !fingerprint.regular || metadata.len() > LARGEST {
            return Some(Text { fingerprint, place: Err(LeaseFileError::Foreign) });
        }
        let start = self.held.len();
        let place = append(&file, metadata.len(), &mut self.held).map(|()| start..self.held.len());
        Some(Text { fingerprint, place: place.map_err(LeaseFileError::from) })
    }

    /// What was read, by the files' names.
    pub(super) fn into_each(self, mut take: impl FnMut(String, Found<'_>)) {
        for (name, Text { fingerprint, place }) in self.files {
            take(name, (fingerprint, place.map(|place| &self.held[place])));
        }
    }
}

/// Reads a file of about this size to its end, or to what is too much.
fn append(mut file: &File, size: u64, held: &mut Vec<u8>) -> io::Result<()> {
    let size = usize::try_from(size).unwrap_or_default();
    let start = held.len();
    held.resize(start + size + 1, 0);
    let read = file.read(&mut held[start..])?;
    held.truncate(start + read);
    // One that ends where it should is read with a single call.
    if read == size {
        return Ok(());
    }
    let left = LARGEST.saturating_sub(u64::try_from(read).unwrap_or(LARGEST));
    file.take(left).read_to_end(held).map(drop)
}

impl Layout {
    /// Reads the files of these names, and has `take` understand them meanwhile. Each has a processor of its own, and they do not
    /// meet in the allocator, where they would hinder each other more than they gain (measured at 5,000 files).
    pub(super) fn read_texts(
        &self,
        names: impl Iterator<Item = String> + Send,
        mut take: impl FnMut(String, Found<'_>),
    ) -> io::Result<()> {
        let folder = File::open(self.nodes())?;
        let (sender, receiver) = sync_channel(AHEAD);
        thread::scope(|scope| {
            let folder = &folder;
            scope.spawn(move || self.read_ahead(folder, names, &sender));
            for texts in receiver {
                texts.into_each(&mut take);
            }
        });
        Ok(())
    }

    fn read_ahead(&self, folder: &File, names: impl Iterator<Item = String>, sender: &SyncSender<Texts>) {
        let mut names = names.peekable();
        while names.peek().is_some() {
            let (held, files) = (Vec::with_capacity(USUAL * TOGETHER), Vec::with_capacity(TOGETHER));
            let mut texts = Texts { held, files };
            names.by_ref().take(TOGETHER).for_each(|name| texts.read(self, folder, name));
            if sender.send(texts).is_err() {
                return;
            }
        }
    }
}
