//! What the daemon remembers of a change of the backend beside what it has published: the reverse-path filters that it has relaxed, and a
//! configuration that was refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::problem::{Kind, Problem};
use crate::{relaxed_rp_filter, whole_file};

/// The memory of a change.
#[derive(Debug)]
pub(super) struct BackendTransition {
    /// The reverse-path filters that were relaxed, with their former values, by sysctl.
    pub(super) relaxed: BTreeMap<String, String>,
    /// The record of them.
    file: PathBuf,
    /// The configuration of the store, where it is not the one in use.
    pub(super) refused: Option<RefusedConf>,
}

/// A configuration that was refused.
#[derive(Debug)]
pub(super) struct RefusedConf {
    /// The text. What has refused it may pass.
    pub(super) text: String,
    /// Why.
    pub(super) problem: Problem,
}

impl BackendTransition {
    /// Goes on where an earlier daemon ended.
    pub(super) fn resume(subnet_file: &Path) -> Self {
        let file = relaxed_rp_filter::file(subnet_file);
        whole_file::sweep(&file);
        Self { relaxed: relaxed_rp_filter::read(subnet_file), file, refused: None }
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
        let text: String = self.relaxed.iter().flat_map(|(key, value)| [key, "=", value, "\n"]).collect();
        whole_file::write(&self.file, text.as_bytes())
            .map_err(|error| self.problem("cannot be written, so a restart would not put rp_filter back", &error))
    }

    /// Forgets the filters once they are as they were.
    ///
    /// # Errors
    /// Where the file stays, for a person.
    pub(super) fn forget(&mut self) -> Result<(), Problem> {
        if std::mem::take(&mut self.relaxed).is_empty() {
            return Ok(());
        }
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.problem("cannot be removed", &error)),
            _ => Ok(()),
        }
    }

    fn problem(&self, what: &str, error: &io::Error) -> Problem {
        Problem::new(Kind::FileNotWritten, self.file.display().to_string(), format!("{what}: {error}"))
    }
}
