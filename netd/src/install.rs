//! `netd install-cni`: installs the plugin into the node's directory of plugins, for an init container.
//!
//! Only the daemon writes the configuration: runtimes read it as "the network is ready".

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{CniConfig, Config};
use crate::conflist::{self, SourceError};
use crate::whole_file;

/// The plugin's name for runtimes.
const PLUGIN: &str = "netd";

/// The first bytes of a program.
const ELF: &[u8] = b"\x7fELF";

/// The plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is nothing to install.
    #[error("cannot read the plugin {}: name its file with --cni-plugin", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be executed.
    #[error("{} (--cni-plugin) is no program: it has {length} bytes and does not begin as one does", path.display())]
    NoProgram {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The file cannot be written.
    #[error("cannot write {}: look at --cni-bin-dir, that folder's permissions and free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be removed.
    #[error("cannot remove {}: remove it by hand", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration to install is not valid.
    #[error(transparent)]
    Conflist(#[from] SourceError),
    /// A plugin that the configuration names is missing.
    #[error(
        "the CNI configuration {} (--cni-conf-source) names the plugin {name:?}, which is not in {}: install the plugins of the CNI \
         project on this node, or take the entry out", conf.display(), bin_dir.display()
    )]
    Missing {
        /// The configuration.
        conf: PathBuf,
        /// The plugin.
        name: String,
        /// Where it should be.
        bin_dir: PathBuf,
    },
}

/// Installs the plugin, then checks the configuration that the daemon will install.
pub fn run(config: &Config) -> Result<(), InstallError> {
    let bin_dir = config.cni.bin_dir();
    let target = bin_dir.join(PLUGIN);
    if install(&source(&config.cni)?, &target)? {
        tracing::info!(path = %target.display(), "CNI plugin installed");
    } else {
        tracing::info!(path = %target.display(), "CNI plugin is installed already");
    }
    let Some(conf) = &config.cni.conf_source else { return Ok(()) };
    let template = conflist::template(Some(conf), &config.subnet_file)?;
    let missing = template.others().find(|name| !bin_dir.join(name).is_file());
    match missing {
        Some(name) => {
            let (conf, name, bin_dir) = (conf.clone(), name.to_owned(), bin_dir.to_owned());
            Err(InstallError::Missing { conf, name, bin_dir })
        }
        None => Ok(()),
    }
}

/// The plugin that came with this netd.
fn source(config: &CniConfig) -> Result<PathBuf, InstallError> {
    if let Some(path) = &config.plugin {
        return Ok(path.clone());
    }
    let path = Path::new("netd-cni");
    let itself = std::env::current_exe().map_err(|source| InstallError::Source { path: path.to_owned(), source })?;
    Ok(itself.with_file_name(path))
}

/// Installs the program in one step, unless the same program is there. True if it was written.
fn install(source: &Path, target: &Path) -> Result<bool, InstallError> {
    let program = fs::read(source).map_err(|error| InstallError::Source { path: source.to_owned(), source: error })?;
    if !program.starts_with(ELF) {
        return Err(InstallError::NoProgram { path: source.to_owned(), length: program.len() });
    }
    whole_file::sweep(target);
    if is_there(target, &program) {
        return Ok(false);
    }
    let folder = target.parent().unwrap_or(Path::new(""));
    whole_file::make_folder(folder)
        .and_then(|()| whole_file::write_program(target, &program))
        .map_err(|source| InstallError::Write { path: target.to_owned(), source })?;
    Ok(true)
}

fn is_there(target: &Path, program: &[u8]) -> bool {
    let mode = fs::symlink_metadata(target).map(|it| (it.is_file(), it.permissions().mode() & 0o7777));
    matches!(mode, Ok((true, whole_file::PROGRAM))) && fs::read(target).is_ok_and(|present| present == program)
}

/// Removes the plugin. True if there was one.
pub(crate) fn remove(bin_dir: &Path) -> Result<bool, InstallError> {
    let path = bin_dir.join(PLUGIN);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(InstallError::Remove { path, source }),
    }
}

#[cfg(test)]
mod tests;
