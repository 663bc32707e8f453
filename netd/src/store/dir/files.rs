//! The store's files: where they are, how they are written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use network::model::{Lease, NodeName};
use network::record;

use super::cause;
use crate::store::StoreError;
use crate::whole_file;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
    net_conf: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: PathBuf, net_conf: Option<PathBuf>) -> Self {
        let net_conf = net_conf.unwrap_or_else(|| dir.join("net-conf.json"));
        Self { dir, net_conf }
    }

    /// The store's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder with the nodes' files.
    pub(super) fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The folder with the network configuration.
    pub(super) fn net_conf_folder(&self) -> &Path {
        self.net_conf.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// A node's file.
    pub(super) fn lease(&self, node: &NodeName) -> PathBuf {
        self.nodes().join(format!("{node}.json"))
    }

    pub(super) fn read_net_conf(&self) -> Result<String, StoreError> {
        fs::read_to_string(&self.net_conf).map_err(|error| StoreError::Read {
            object: self.net_conf.display().to_string(),
            advice: r#"it must hold the network configuration, such as {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#,
            source: cause(error),
        })
    }

    pub(super) fn make_folders(&self) -> Result<(), StoreError> {
        whole_file::make_folder(&self.nodes()).map_err(|error| Self::unwritable(&self.nodes(), error))
    }

    pub(super) fn write_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.lease(&lease.node);
        whole_file::write(&path, record::render(lease).as_bytes()).map_err(|error| Self::unwritable(&path, error))
    }

    /// Removes what an earlier run of the node was killed over.
    pub(super) fn sweep_lease(&self, node: &NodeName) {
        whole_file::sweep(&self.lease(node));
    }

    pub(super) fn remove_lease(&self, node: &NodeName) -> Result<(), StoreError> {
        let path = self.lease(node);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Self::unwritable(&path, error)),
            _ => Ok(()),
        }
    }

    fn unwritable(path: &Path, error: io::Error) -> StoreError {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
            _ => "netd must be able to write the store's directory",
        };
        StoreError::Write { object: path.display().to_string(), advice, source: cause(error) }
    }
}
