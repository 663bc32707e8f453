//! The directory's files as last read, and the events of what has changed in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::contents::{self, Contents};
use super::is_objects;
use super::notifications::Changed;
use crate::model::{Collection, Event, ObjectName};
use crate::problem::{Kind, Problem};

/// The largest file that is read.
const LARGEST: u64 = 64 << 20;

/// How long a file must be missing before its objects count as gone: an editor may take the file away before it writes the new one.
const GONE_AFTER: Duration = Duration::from_millis(200);

/// How soon an unavailable directory is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The metadata by which two versions of a file differ.
type Fingerprint = [i64; 5];

/// A file as last read.
#[derive(Default)]
struct FileState {
    fingerprint: Fingerprint,
    /// The objects that are the file's.
    objects: BTreeSet<ObjectName>,
}

/// The directory's files.
pub struct Files {
    pub(super) dir: PathBuf,
    node: String,
    states: BTreeMap<String, FileState>,
    /// The file of each object. Where several have it, the first by name, whatever came first.
    owners: BTreeMap<ObjectName, Arc<str>>,
    /// The other files that have an object.
    shadowed: BTreeMap<ObjectName, BTreeSet<Arc<str>>>,
    /// Files to read again, since an object of theirs has another file now.
    reread: BTreeSet<Arc<str>>,
    /// Missing files, and when their objects count as gone.
    missing: BTreeMap<String, Instant>,
    is_listed: bool,
    /// While the directory is unavailable: when to try again.
    retry: Option<Instant>,
}

impl Files {
    /// The files of a directory, none of which is read yet. `node` is this node's name.
    pub fn new(dir: PathBuf, node: &str) -> Self {
        let (states, owners, shadowed, reread, missing) = Default::default();
        Self { dir, node: node.to_owned(), states, owners, shadowed, reread, missing, is_listed: false, retry: None }
    }

    /// When the next update is due without a notification.
    pub(super) fn due(&self) -> Option<Instant> {
        self.missing.values().copied().chain(self.retry).min()
    }

    pub(super) fn is_available(&self) -> bool {
        self.retry.is_none()
    }

    /// Reads every file that differs from what was read last; gives the events that result.
    pub fn read_all(&mut self, now: Instant) -> Vec<Event> {
        self.update(&Changed::All, now)
    }

    /// Reads what may have changed; gives the events that result.
    pub(super) fn update(&mut self, changed: &Changed, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        match changed {
            Changed::Names(names) if self.is_listed && self.is_available() => {
                self.update_names(names, now, &mut events);
            }
            _ => self.update_all(now, &mut events),
        }
        while let Some(name) = self.reread.pop_first() {
            self.read(&name, now, &mut events);
        }
        events
    }

    fn update_all(&mut self, now: Instant, events: &mut Vec<Event>) {
        let subject: Arc<str> = self.dir.display().to_string().into();
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                // The directory is missing as a whole, which says nothing about single files.
                self.missing.clear();
                if self.retry.replace(now + RETRY).is_none() {
                    let problem = Problem::new(Kind::SourceUnavailable, &*subject, format!("cannot be read: {error}"));
                    let remedy = "make it a directory with the YAML of Services and EndpointSlices";
                    events.push(Event::Faults(subject, vec![problem.with_remedy(remedy)]));
                }
                return;
            }
        };
        if self.retry.take().is_some() {
            events.push(Event::Faults(subject, Vec::new()));
        }
        let is_first = !std::mem::replace(&mut self.is_listed, true);
        if is_first {
            events.extend(Collection::ALL.map(Event::Init));
        }
        let missing: Vec<String> = self.states.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in &missing {
            self.file_is_missing(name, now, events);
        }
        for name in names {
            let known = self.states.get(&name).map(|state| state.fingerprint);
            let is_known = || fs::metadata(self.dir.join(&name)).is_ok_and(|data| Some(fingerprint(&data)) == known);
            if known.is_none() || !is_known() {
                self.read(&name, now, events);
            }
            self.missing.remove(&name);
        }
        if is_first {
            events.extend(Collection::ALL.map(Event::InitDone));
        }
    }

    fn update_names(&mut self, names: &BTreeSet<String>, now: Instant, events: &mut Vec<Event>) {
        let due = self.missing.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone());
        let names: BTreeSet<String> = names.iter().cloned().chain(due).collect();
        for name in &names {
            self.read(name, now, events);
        }
    }

    fn names(&self) -> io::Result<BTreeSet<String>> {
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.filter(|name| name.as_ref().map_or(true, |name| is_objects(name))).collect()
    }

    fn file_is_missing(&mut self, name: &str, now: Instant, events: &mut Vec<Event>) {
        if !self.states.contains_key(name) {
            return;
        }
        if !self.dir.is_dir() {
            self.update_all(now, events);
        } else if *self.missing.entry(name.to_owned()).or_insert(now + GONE_AFTER) <= now {
            self.missing.remove(name);
            self.set(name, FileState::default(), events);
            self.states.remove(name);
            events.push(Event::Faults(name.into(), Vec::new()));
        }
    }

    fn read(&mut self, name: &str, now: Instant, events: &mut Vec<Event>) {
        let (fingerprint, contents) = match read_file(&self.dir.join(name)) {
            Ok((fingerprint, text)) => (fingerprint, contents::read(name, &text, &self.node)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.file_is_missing(name, now, events),
            Err(error) => {
                let problem = Problem::new(Kind::InvalidFile, name, format!("cannot be read: {error}"));
                (Fingerprint::default(), Err(problem.with_remedy("its last objects are kept")))
            }
        };
        self.missing.remove(name);
        let faults = match contents {
            Ok(contents) => self.take(name, fingerprint, contents, events),
            Err(problem) => {
                self.states.entry(name.to_owned()).or_default().fingerprint = fingerprint;
                vec![problem]
            }
        };
        events.push(Event::Faults(name.into(), faults));
    }

    /// Takes what a file says. Gives the file's faults.
    fn take(
        &mut self,
        name: &str,
        fingerprint: Fingerprint,
        contents: Contents,
        events: &mut Vec<Event>,
    ) -> Vec<Problem> {
        let Contents { objects, broken, mut faults, ignored, .. } = contents;
        if ignored > 0 {
            tracing::debug!(file = name, ignored, "objects of other kinds are ignored");
        }
        let mut state = FileState { fingerprint, ..FileState::default() };
        let former = self.states.get(name).map(|former| &former.objects);
        let is_kept = |object: &ObjectName| former.is_some_and(|former| former.contains(object));
        state.objects.extend(broken.into_iter().filter(is_kept));
        let (own, mut new) = (Arc::<str>::from(name), Vec::new());
        for (object, event) in objects {
            match self.owners.get(&object).cloned() {
                Some(owner) if owner < own => {
                    let detail = format!("is in {owner}, too, which comes first by name and counts");
                    faults.push(Problem::new(Kind::InvalidFile, format!("{object} in {name}"), detail));
                    self.shadowed.entry(object).or_default().insert(Arc::clone(&own));
                    continue;
                }
                Some(owner) if owner > own => {
                    self.states.get_mut(&*owner).map(|file| file.objects.remove(&object));
                    // It reports that then.
                    self.reread.insert(owner);
                }
                _ => {}
            }
            self.owners.insert(object.clone(), Arc::clone(&own));
            state.objects.insert(object);
            new.push(event);
        }
        self.set(name, state, events);
        events.append(&mut new);
        faults
    }

    /// Replaces a file's state. What the file does not give any more is gone.
    fn set(&mut self, name: &str, state: FileState, events: &mut Vec<Event>) {
        let former = self.states.insert(name.to_owned(), state).unwrap_or_default();
        let kept = &self.states[name].objects;
        for object in former.objects.into_iter().filter(|object| !kept.contains(object)) {
            self.owners.remove(&object);
            self.reread.extend(self.shadowed.remove(&object).into_iter().flatten());
            events.push(Event::Unset(object, Vec::new()));
        }
    }
}

/// Reads a regular file of at most [`LARGEST`] bytes.
fn read_file(path: &Path) -> io::Result<(Fingerprint, String)> {
    // Without O_NONBLOCK, opening a pipe without a writer would block.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > LARGEST {
        let message = format!("it has {} bytes: at most {LARGEST} are read, so split it", metadata.len());
        return Err(io::Error::other(message));
    }
    let mut text = String::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok((fingerprint(&metadata), text))
}

fn fingerprint(metadata: &Metadata) -> Fingerprint {
    let [inode, size] = [metadata.ino(), metadata.size()].map(u64::cast_signed);
    [inode, size, metadata.mtime_nsec() ^ metadata.mtime(), metadata.ctime(), metadata.ctime_nsec()]
}
