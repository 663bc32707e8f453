//! The plugin's CNI configuration. Container runtimes read it as "the network is ready", so it is installed then.
//!
//! Only [`template()`], [`install`] and [`remove`] touch files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::access_error::AccessError;
use crate::whole_file;

pub mod template;

pub use template::{Template, TemplateError};

/// The network's name, as flannel's manifest has it.
pub(crate) const NETWORK: &str = "cbr0";

/// The list if the operator gives none: CNI spec 1.1.0, "Network configuration format".
fn built_in() -> Value {
    json!({
        "name": NETWORK,
        // containerd 1.6 takes no 1.1.0 results; newer runtimes choose from `cniVersions`, older ones do not read it.
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        // Capabilities: what a runtime may pass to the plugin.
        "plugins": [{ "type": "netd", "capabilities": { "ips": true, "mac": true } }],
    })
}

/// Reads the operator's list; the built-in one if no file is named.
pub fn template(source: Option<&Path>, subnet_file: &Path) -> Result<Template, ConflistError> {
    let Some(path) = source else { return Ok(Template::default()) };
    let advice = "name the mounted cni-conf.json, or leave the flag out";
    let text = whole_file::read(path)
        .map_err(|error| AccessError::new("read --cni-conf-source", path.display(), advice, error))?;
    Template::parse(&text, subnet_file).map_err(|source| ConflistError::Invalid { path: path.to_owned(), source })
}

/// The list cannot be used or installed.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The operator's list is not valid.
    #[error("{} (--cni-conf-source) cannot be used", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TemplateError,
    },
    /// JSON has only Unicode text.
    #[error("cannot name --subnet-file {} in a CNI configuration: choose a path in UTF-8", .0.display())]
    Render(PathBuf),
}

/// Puts the list at `path` in one step: a temporary file beside it, then a rename, which is what runtimes notice. A file that holds it
/// already stays as it is; true where it was written.
pub fn install(path: &Path, template: &Template, subnet_file: &Path) -> Result<bool, ConflistError> {
    let text = template.render(subnet_file)?;
    whole_file::sweep(path);
    if whole_file::read(path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    let advice = "look at --cni-conf-dir, that folder's permissions and free space";
    whole_file::install(path, text.as_bytes(), whole_file::FILE)
        .map_err(|error| AccessError::new("write", path.display(), advice, error))?;
    Ok(true)
}

/// Takes every list away that calls the plugin for this `subnet.env`, whatever its name: without netd, no pod can be started by it. Those of
/// other networks stay. Gives the files that are gone.
pub fn remove(folder: &Path, subnet_file: &Path) -> Result<Vec<PathBuf>, AccessError> {
    let failed = |path: &Path, error: io::Error| {
        let advice = "remove it by hand, or runtimes go on calling the plugin";
        AccessError::new("remove", path.display(), advice, error)
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(folder, error))?,
    };
    let mut gone = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if whole_file::read(&path).is_ok_and(|text| template::is_for(&text, subnet_file)) {
            fs::remove_file(&path).map_err(|error| failed(&path, error))?;
            gone.push(path);
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests;
