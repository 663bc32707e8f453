//! The namespace that the runtime names in `CNI_NETNS`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dataplane::netns;

use crate::call::Target;
use crate::cni_error::{CniError, Code};

/// This thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace that is not the plugin's own.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    file: File,
}

/// Why the namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The path cannot be opened.
    #[error("failed to open netns {path:?}: the container's namespace is gone, or was never made")]
    Open {
        /// `CNI_NETNS`
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The path is no network namespace.
    #[error("failed to open netns {path:?}: CNI_NETNS is no network namespace")]
    NoNamespace {
        /// `CNI_NETNS`
        path: String,
    },
    /// The namespace is the plugin's own.
    #[error("plugin's netns and netns from CNI_NETNS should not be the same: {path:?}")]
    Own {
        /// `CNI_NETNS`
        path: String,
    },
}

impl NamespaceError {
    /// True where the path exists and could not be opened.
    pub fn may_be_there(&self) -> bool {
        matches!(self, NamespaceError::Open { source, .. } if source.kind() != ErrorKind::NotFound)
    }
}

impl From<NamespaceError> for CniError {
    fn from(error: NamespaceError) -> Self {
        let code = match error {
            NamespaceError::Open { .. } => Code::UnknownContainer,
            NamespaceError::NoNamespace { .. } => Code::InvalidEnvironment,
            NamespaceError::Own { .. } => Code::InvalidNetns,
        };
        CniError::of(code, &error)
    }
}

impl Namespace {
    /// Opens the target's namespace.
    ///
    /// # Errors
    /// Where it is no network namespace, or the plugin's own and that is not allowed.
    pub fn open(target: &Target) -> Result<Self, NamespaceError> {
        let path = || target.netns.clone();
        let fault = |source| NamespaceError::Open { path: path(), source };
        let file = File::open(&target.netns).map_err(fault)?;
        let (theirs, own) = (file.metadata().map_err(fault)?, fs::metadata(OWN).map_err(fault)?);
        // The files of namespaces are all in one file system, nsfs, which has no other files.
        if theirs.dev() != own.dev() {
            return Err(NamespaceError::NoNamespace { path: path() });
        }
        if theirs.ino() == own.ino() && !target.own_netns_allowed {
            return Err(NamespaceError::Own { path: path() });
        }
        Ok(Self { path: PathBuf::from(&target.netns), file })
    }

    /// Runs `body` inside.
    ///
    /// # Errors
    /// Where the namespace is gone, or is of another kind; the error of `body`.
    pub fn visit<T>(&self, body: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
        let code = |missing| if missing { Code::UnknownContainer } else { Code::InvalidEnvironment };
        netns::visit(&self.path, body).map_err(|error| CniError::of(code(error.is_missing()), &error))?
    }

    /// The open file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
