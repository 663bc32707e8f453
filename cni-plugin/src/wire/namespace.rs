//! The namespace that the runtime names in `CNI_NETNS`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dataplane::netns;

use crate::call::Target;
use crate::failure::{Code, Failure};

/// This thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace that is there and not ours.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    file: File,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The path cannot be opened.
    #[error("failed to open netns {path:?}: the container's namespace is gone, or was never made")]
    Open {
        /// `CNI_NETNS`
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path is no namespace.
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
    /// True where another namespace may be at the path, and only could not be opened this time.
    pub fn may_be_there(&self) -> bool {
        matches!(self, NamespaceError::Open { source, .. } if source.kind() != ErrorKind::NotFound)
    }
}

impl From<NamespaceError> for Failure {
    fn from(error: NamespaceError) -> Self {
        let code = match error {
            NamespaceError::Open { .. } => Code::UnknownContainer,
            NamespaceError::NoNamespace { .. } => Code::InvalidEnvironment,
            NamespaceError::Own { .. } => Code::InvalidNetns,
        };
        Failure::of(code, &error)
    }
}

impl Namespace {
    /// Opens the target's namespace, and makes sure that it is one and not the plugin's own unless that is allowed.
    ///
    /// # Errors
    /// Where it is not.
    pub fn open(target: &Target) -> Result<Self, NamespaceError> {
        let path = || target.netns.clone();
        let fault = |source| NamespaceError::Open { path: path(), source };
        let file = File::open(&target.netns).map_err(fault)?;
        let (theirs, own) = (file.metadata().map_err(fault)?, fs::metadata(OWN).map_err(fault)?);
        // Every namespace is a file of the one file system that has nothing else.
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
    /// Where the namespace went away meanwhile, or is of another kind; what `body` fails with.
    pub fn visit<T>(&self, body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let code = |missing| if missing { Code::UnknownContainer } else { Code::InvalidEnvironment };
        netns::visit(&self.path, body).map_err(|error| Failure::of(code(error.is_missing()), &error))?
    }

    /// The open file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
