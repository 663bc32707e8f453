//! The plugin's CNI configuration, which container runtimes take as "the network is ready": it is installed when that is true.
//!
//! The text is made purely; [`install`] and [`remove`] alone touch files.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::whole_file;

/// The network's name, as flannel's manifest has it.
pub(crate) const NETWORK: &str = "cbr0";

/// The configuration list: CNI spec 1.1.0, "Network configuration format".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Conflist<'a> {
    name: &'static str,
    // containerd 1.6 takes no 1.1.0 results; newer runtimes choose from `cniVersions`, older ones do not read it.
    cni_version: &'static str,
    cni_versions: [&'static str; 2],
    plugins: [Plugin<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin<'a> {
    r#type: &'static str,
    subnet_file: &'a Path,
    capabilities: Capabilities,
}

/// What a runtime may hand to the plugin.
#[derive(Serialize)]
struct Capabilities {
    ips: bool,
    mac: bool,
}

/// The text of the list; the plugin is to read `subnet_file`.
pub fn render(subnet_file: &Path) -> Result<String, ConflistError> {
    let plugin = Plugin { r#type: "netd", subnet_file, capabilities: Capabilities { ips: true, mac: true } };
    let list = Conflist { name: NETWORK, cni_version: "1.0.0", cni_versions: ["1.0.0", "1.1.0"], plugins: [plugin] };
    let mut text = serde_json::to_string_pretty(&list)
        .map_err(|error| ConflistError::Render { subnet_file: subnet_file.to_owned(), source: error.into() })?;
    text.push('\n');
    Ok(text)
}

/// Why the list could not be put in its place or taken away.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// JSON has only Unicode text.
    #[error("cannot name --subnet-file {} in a CNI configuration: choose a path in UTF-8", subnet_file.display())]
    Render {
        /// The path.
        subnet_file: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file cannot be written.
    #[error("cannot write {}: look at --cni-conf-dir, that folder's permissions and free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file cannot be removed.
    #[error("cannot remove {}: remove it by hand, or runtimes go on calling the plugin", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Puts the list at `path` in one step: a temporary file beside it, then a rename, which is what runtimes notice. A file that holds it
/// already stays as it is; true where it was written.
pub fn install(path: &Path, subnet_file: &Path) -> Result<bool, ConflistError> {
    let text = render(subnet_file)?;
    whole_file::sweep(path);
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    whole_file::make_folder(folder)
        .and_then(|()| whole_file::write(path, text.as_bytes()))
        .map_err(|error| ConflistError::Write { path: path.to_owned(), source: error.into() })?;
    Ok(true)
}

/// Takes the list away; true where there was one.
pub fn remove(path: &Path) -> Result<bool, ConflistError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ConflistError::Remove { path: path.to_owned(), source: error.into() }),
    }
}

#[cfg(test)]
mod tests;
