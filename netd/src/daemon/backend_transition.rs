//! What the daemon remembers of a change of the backend beside what it has published: the reverse-path filters that it has relaxed, and a
//! configuration that was refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::problem::{Kind, Problem};
use crate::{relaxed_rp_filter, whole_file};

/// The memory of a change.
#[derive(Debug)]
pub(super) struct BackendTransition {
    /// The reverse-path filters that were relaxed, with their former values, by sysctl.
    relaxed: BTreeMap<String, String>,
    subnet_file: PathBuf,
    /// Why the configuration of the store is not the one in use.
    pub(super) refused: Option<Problem>,
}

impl BackendTransition {
    /// Goes on where an earlier daemon ended.
    pub(super) fn resume(subnet_file: &Path) -> Self {
        whole_file::sweep(&relaxed_rp_filter::file(subnet_file));
        Self { relaxed: relaxed_rp_filter::read(subnet_file), subnet_file: subnet_file.to_owned(), refused: None }
    }

    /// The filters that are relaxed, with their former values, by sysctl.
    pub(super) fn relaxed(&self) -> &BTreeMap<String, String> {
        &self.relaxed
    }

    /// Writes filters down before they are relaxed.
    ///
    /// # Errors
    /// Where that cannot be written, for a person.
    pub(super) fn remember(&mut self, relaxes: &BTreeMap<String, String>) -> Result<(), Problem> {
        if relaxes.is_empty() {
            return Ok(());
        }
        self.relaxed.extend(relaxes.clone());
        relaxed_rp_filter::write(&self.subnet_file, &self.relaxed).map_err(|error| {
            self.problem(format!("cannot be written, so a restart would not put rp_filter back: {error}"))
        })
    }

    /// Forgets the filters once they are as they were.
    ///
    /// # Errors
    /// Where the file stays, for a person.
    pub(super) fn forget(&mut self) -> Result<(), Problem> {
        if self.relaxed.is_empty() {
            return Ok(());
        }
        self.relaxed.clear();
        relaxed_rp_filter::remove(&self.subnet_file)
            .map_err(|error| self.problem(format!("cannot be removed: {error}")))
    }

    fn problem(&self, detail: String) -> Problem {
        let file = relaxed_rp_filter::file(&self.subnet_file);
        Problem::new(Kind::FileNotWritten, file.display().to_string(), detail)
    }
}
