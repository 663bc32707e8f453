//! What the daemon remembers of a change of the backend: ways that linger, filters that were loosened, and a
//! configuration that was refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use network::model::{Encapsulation, Lease};
use network::overlay::transition::Transition;
use tokio::time::Instant;

use crate::problem::{Kind, Problem};
use crate::whole_file;

/// How long a way stays open after the peers were told that it closes: the last packets may be under way.
pub(super) const LINGER: Duration = Duration::from_secs(3);

/// The memory of a change.
#[derive(Debug)]
pub(crate) struct Switch {
    transition: Transition,
    until: BTreeMap<Encapsulation, Instant>,
    file: PathBuf,
    /// Peers know by what this node sends, and what they receive has been read after that.
    pub(crate) met: bool,
    /// Why the configuration of the store is not the one in use.
    pub(crate) refused: Option<Problem>,
}

/// Beside the subnet file: both are of this boot.
pub(crate) fn file(subnet_file: &Path) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(".loosened");
    name.into()
}

/// The reverse-path filters that a daemon has loosened and not put back, as they were, by sysctl.
pub(crate) fn loosened(subnet_file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file(subnet_file)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    // The file says which sysctls are written: nothing but these filters may be among them.
    let filters = lines.filter(|(key, value)| {
        key.starts_with("net/ipv4/conf/")
            && key.ends_with("/rp_filter")
            && !key.contains("..")
            && ["0", "1", "2"].contains(value)
    });
    filters.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Switch {
    /// Goes on where an earlier run ended, whose record may be there still.
    pub(crate) fn resume(subnet_file: &Path, own: &Lease) -> Self {
        whole_file::sweep(&file(subnet_file));
        let transition = Transition { relaxed_rp_filter: loosened(subnet_file), ..Transition::default() };
        let (file, met) = (file(subnet_file), own.encapsulations.is_some());
        Self { transition, until: BTreeMap::new(), file, met, refused: None }
    }

    /// What the overlay needs to know.
    pub(crate) fn transition(&self) -> &Transition {
        &self.transition
    }

    /// Remembers filters before they are loosened.
    ///
    /// # Errors
    /// Where that cannot be written, for a person.
    pub(crate) fn remember(&mut self, loosens: &BTreeMap<String, String>) -> Result<(), Problem> {
        if loosens.is_empty() {
            return Ok(());
        }
        self.transition.relaxed_rp_filter.extend(loosens.clone());
        let lines = self.transition.relaxed_rp_filter.iter().map(|(key, value)| format!("{key}={value}\n"));
        let text: String = lines.collect();
        let written = whole_file::write(&self.file, text.as_bytes());
        written.map_err(|error| {
            let detail = format!("cannot be written, so a restart would not put rp_filter back: {error}");
            Problem::new(Kind::FileNotWritten, self.file.display().to_string(), detail)
        })
    }

    /// Forgets them once they are as they were.
    ///
    /// # Errors
    /// Where the file stays, for a person.
    pub(crate) fn forget(&mut self) -> Result<(), Problem> {
        if self.transition.relaxed_rp_filter.is_empty() {
            return Ok(());
        }
        self.transition.relaxed_rp_filter.clear();
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let detail = format!("cannot be removed: {error}");
                Err(Problem::new(Kind::FileNotWritten, self.file.display().to_string(), detail))
            }
            _ => Ok(()),
        }
    }

    /// Goes on receiving in these encapsulations for a while.
    pub(crate) fn linger(&mut self, encapsulations: impl IntoIterator<Item = Encapsulation>) {
        let until = Instant::now() + LINGER;
        self.until.extend(encapsulations.into_iter().map(|encapsulation| (encapsulation, until)));
        self.transition.draining = self.until.keys().copied().collect();
    }

    /// When the next way may close.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// Keeps those open whose time is over, since it is not known whether somebody uses them.
    pub(crate) fn stay(&mut self, now: Instant) {
        self.until.values_mut().filter(|until| **until <= now).for_each(|until| *until = now + 10 * LINGER);
    }

    /// Closes those whose time is over.
    pub(crate) fn let_go(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.transition.draining = self.until.keys().copied().collect();
    }
}
