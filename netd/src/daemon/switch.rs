//! What the daemon remembers of a change of the backend: ways that linger, filters that were loosened, and a
//! configuration that was refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use network::model::{Encapsulation, Lease};
use network::overlay::transition::Transition;
use tokio::time::Instant;

use crate::problem::{Kind, Problem};
use crate::relaxed_rp_filter;
use crate::whole_file;

/// How long a way stays open after the peers were told that it closes: the last packets may be under way.
pub(super) const LINGER: Duration = Duration::from_secs(3);

/// The memory of a change.
#[derive(Debug)]
pub(crate) struct Switch {
    transition: Transition,
    until: BTreeMap<Encapsulation, Instant>,
    subnet_file: PathBuf,
    /// Peers know by what this node sends, and what they receive has been read after that.
    pub(crate) met: bool,
    /// Why the configuration of the store is not the one in use.
    pub(crate) refused: Option<Problem>,
}

impl Switch {
    /// Goes on where an earlier run ended, whose record may be there still.
    pub(crate) fn resume(subnet_file: &Path, own: &Lease) -> Self {
        whole_file::sweep(&relaxed_rp_filter::file(subnet_file));
        let transition = relaxed_rp_filter::transition(subnet_file);
        let (subnet_file, met) = (subnet_file.to_owned(), own.encapsulations.is_some());
        Self { transition, until: BTreeMap::new(), subnet_file, met, refused: None }
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
        relaxed_rp_filter::write(&self.subnet_file, &self.transition.relaxed_rp_filter).map_err(|error| {
            self.problem(format!("cannot be written, so a restart would not put rp_filter back: {error}"))
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
        relaxed_rp_filter::remove(&self.subnet_file)
            .map_err(|error| self.problem(format!("cannot be removed: {error}")))
    }

    fn problem(&self, detail: String) -> Problem {
        let file = relaxed_rp_filter::file(&self.subnet_file);
        Problem::new(Kind::FileNotWritten, file.display().to_string(), detail)
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
