//! The namespace that the runtime names in `CNI_NETNS`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use dataplane::netns;
use nix::libc::O_NONBLOCK;

use crate::call::Target;
use crate::cni_error::{CniError, Code};

/// This thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace that is not the plugin's own.
#[derive(Debug)]
pub struct Namespace {
    /// Its path, as the runtime gave it.
    pub path: String,
    file: File,
}

impl Namespace {
    /// Opens the target's namespace.
    ///
    /// # Errors
    /// Where the path cannot be opened ([`Code::UnknownContainer`]), is no network namespace, or is the plugin's own and that is
    /// not allowed.
    pub fn open(target: &Target) -> Result<Self, CniError> {
        let path = &target.netns;
        let fault = |error: io::Error| {
            let reason = "the container's namespace is gone, or was never made";
            CniError::new(Code::UnknownContainer, format!("failed to open netns {path:?}: {reason}: {error}"))
        };
        // A pipe would make the plugin wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(fault)?;
        let (theirs, own) = (file.metadata().map_err(fault)?, fs::metadata(OWN).map_err(fault)?);
        // The files of namespaces are all in one file system, nsfs, which has no other files.
        if theirs.dev() != own.dev() {
            let message = format!("failed to open netns {path:?}: CNI_NETNS is no network namespace");
            return Err(CniError::new(Code::InvalidEnvironment, message));
        }
        if theirs.ino() == own.ino() && !target.own_netns_allowed {
            let message = format!("plugin's netns and netns from CNI_NETNS should not be the same: {path:?}");
            return Err(CniError::new(Code::InvalidNetns, message));
        }
        Ok(Self { path: path.clone(), file })
    }

    /// Runs `body` inside.
    ///
    /// # Errors
    /// Where the plugin may not, or the namespace is of another kind; the error of `body`.
    pub fn visit<T>(&self, body: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
        netns::visit(&self.file, body).map_err(|error| {
            let path = &self.path;
            if error.kind() == io::ErrorKind::PermissionDenied {
                let needs =
                    "the plugin needs the capability CAP_SYS_ADMIN there and in its own namespace, as root has it";
                return CniError::new(Code::Kernel, format!("cannot enter the network namespace {path}: {needs}"));
            }
            CniError::new(Code::InvalidEnvironment, format!("cannot enter the network namespace {path}: {error}"))
        })?
    }

    /// The open file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
