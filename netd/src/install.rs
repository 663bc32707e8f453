//! `netd install-cni`: installs the plugin into the node's directory of plugins, for an init container.
//!
//! Only the daemon writes the configuration: runtimes read it as "the network is ready".

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::access_error::AccessError;
use crate::config::{CniConfig, Config};
use crate::conflist::{self, ConflistError};
use crate::whole_file;

/// The plugin's name for runtimes.
const PLUGIN: &str = "netd";

/// The first bytes of a program.
const ELF: &[u8] = b"\x7fELF";

/// The plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The file cannot be executed.
    #[error("{} (--cni-plugin) is no program: it has {length} bytes and does not begin as one does", path.display())]
    NoProgram {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The configuration to install is not valid.
    #[error(transparent)]
    Conflist(#[from] ConflistError),
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
    if let Some(name) = template.others().find(|name| !bin_dir.join(name).is_file()) {
        let (conf, name, bin_dir) = (conf.clone(), name.to_owned(), bin_dir.to_owned());
        return Err(InstallError::Missing { conf, name, bin_dir });
    }
    Ok(())
}

/// The plugin that came with this netd.
fn source(config: &CniConfig) -> Result<PathBuf, AccessError> {
    if let Some(path) = &config.plugin {
        return Ok(path.clone());
    }
    let path = Path::new("netd-cni");
    Ok(std::env::current_exe().map_err(|error| unreadable(path, error))?.with_file_name(path))
}

fn unreadable(plugin: &Path, error: io::Error) -> AccessError {
    AccessError::new("read the plugin", plugin.display(), "name its file with --cni-plugin", error)
}

/// Installs the program in one step, unless the same program is there. True if it was written.
fn install(source: &Path, target: &Path) -> Result<bool, InstallError> {
    let program = fs::read(source).map_err(|error| unreadable(source, error))?;
    if !program.starts_with(ELF) {
        return Err(InstallError::NoProgram { path: source.to_owned(), length: program.len() });
    }
    whole_file::sweep(target);
    if is_there(target, &program) {
        return Ok(false);
    }
    let advice = "look at --cni-bin-dir, that folder's permissions and free space";
    whole_file::install(target, &program, whole_file::PROGRAM)
        .map_err(|error| AccessError::new("write", target.display(), advice, error))?;
    Ok(true)
}

fn is_there(target: &Path, program: &[u8]) -> bool {
    let mode = fs::symlink_metadata(target).map(|it| (it.is_file(), it.permissions().mode() & 0o7777));
    matches!(mode, Ok((true, whole_file::PROGRAM))) && fs::read(target).is_ok_and(|present| present == program)
}

/// Removes the plugin. True if there was one.
pub(crate) fn remove(bin_dir: &Path) -> Result<bool, AccessError> {
    let path = bin_dir.join(PLUGIN);
    whole_file::remove(&path).map_err(|error| AccessError::new("remove", path.display(), "remove it by hand", error))
}

#[cfg(test)]
mod tests;
