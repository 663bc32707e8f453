//! The store's paths, and how its files are written and removed.

use std::io;
use std::path::{Path, PathBuf};

use network::model::{Lease, NodeName};
use network::record;

use crate::store::StoreError;
use crate::whole_file;

/// The store's paths.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The store's directory.
    pub(super) dir: PathBuf,
    net_conf: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: PathBuf, net_conf: Option<PathBuf>) -> Self {
        let net_conf = net_conf.unwrap_or_else(|| dir.join("net-conf.json"));
        Self { dir, net_conf }
    }

    /// The directory of the nodes' files.
    pub(super) fn nodes_dir(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir.join("netd.lock")
    }

    /// The directory of the network configuration.
    pub(super) fn net_conf_dir(&self) -> &Path {
        self.net_conf.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// A node's file.
    pub(super) fn lease_file(&self, node: &NodeName) -> PathBuf {
        self.nodes_dir().join(file_name(node))
    }

    pub(super) fn read_net_conf(&self) -> Result<String, StoreError> {
        let advice = r#"it must hold the network configuration, such as {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;
        whole_file::read(&self.net_conf).map_err(|error| StoreError::read(self.net_conf.display(), advice, error))
    }

    pub(super) fn make_dirs(&self) -> Result<(), StoreError> {
        whole_file::make_folder(&self.nodes_dir()).map_err(|error| Self::unwritable(&self.nodes_dir(), error))
    }

    pub(super) fn write_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.lease_file(&lease.node);
        whole_file::write(&path, record::render(lease).as_bytes()).map_err(|error| Self::unwritable(&path, error))
    }

    /// Removes temporary files of a write during which an earlier netd of this node was killed.
    pub(super) fn remove_partial_lease(&self, node: &NodeName) {
        whole_file::sweep(&self.lease_file(node));
    }

    pub(super) fn remove_lease(&self, node: &NodeName) -> Result<(), StoreError> {
        let path = self.lease_file(node);
        whole_file::remove(&path).map(drop).map_err(|error| Self::unwritable(&path, error))
    }

    fn unwritable(path: &Path, error: io::Error) -> StoreError {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
            _ => "netd must be able to write the store's directory",
        };
        StoreError::write(path.display(), advice, error)
    }
}

/// The name of a node's file.
pub(super) fn file_name(node: &NodeName) -> String {
    format!("{node}.json")
}
