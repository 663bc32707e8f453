//! What the daemon remembers of a change of the backend beside what it has published: the reverse-path filters that it has relaxed, and a
//! configuration that was refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::problem::{Kind, Problem};
use crate::whole_file;

/// The memory of a change.
#[derive(Debug)]
pub(super) struct BackendTransition {
    /// The reverse-path filters that were relaxed, with their former values, by sysctl.
    relaxed: BTreeMap<String, String>,
    file: PathBuf,
    /// Why the configuration of the store is not the one in use.
    pub(super) refused: Option<Problem>,
}

/// Beside the subnet file: both are of this boot.
pub(crate) fn file(subnet_file: &Path) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(".loosened");
    name.into()
}

/// The reverse-path filters that a daemon has relaxed and not restored, with their former values, by sysctl.
pub(crate) fn relaxed_rp_filter(subnet_file: &Path) -> BTreeMap<String, String> {
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

impl BackendTransition {
    /// Goes on where an earlier daemon ended.
    pub(super) fn resume(subnet_file: &Path) -> Self {
        let file = file(subnet_file);
        whole_file::sweep(&file);
        Self { relaxed: relaxed_rp_filter(subnet_file), file, refused: None }
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
        let text: String = self.relaxed.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let written = whole_file::write(&self.file, text.as_bytes());
        written.map_err(|error| {
            let detail = format!("cannot be written, so a restart would not put rp_filter back: {error}");
            Problem::new(Kind::FileNotWritten, self.file.display().to_string(), detail)
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
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let detail = format!("cannot be removed: {error}");
                Err(Problem::new(Kind::FileNotWritten, self.file.display().to_string(), detail))
            }
            _ => Ok(()),
        }
    }
}
