//! What can go wrong between us and the kernel.

use std::io;

use crate::netlink_message::Refusal;
use crate::netlink_socket::SocketError;
use crate::{nft, xtables};

/// Why a request to the kernel was not done, or why an answer of the kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refused one request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The socket itself failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An answer could not be read.
    #[error("netlink answer of {length} bytes cannot be read: {reason}")]
    Malformed {
        /// Its length in bytes.
        length: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The object that the request names does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Too many restarts of one dump: the table changes faster than it can be read.
    #[error("the kernel's table changed during each of {0} attempts to read it")]
    NeverConsistent(u32),
    /// An nftables transaction failed.
    #[error(transparent)]
    Nft(#[from] nft::Error),
    /// A table of iptables-legacy could not be read.
    #[error(transparent)]
    Xtables(#[from] xtables::Error),
    /// A sysctl or another file of the kernel could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused(refusal) => Some(refusal.errno),
            KernelError::Socket(SocketError { source, .. }) | KernelError::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// True where another program has the port (`EADDRINUSE`).
    pub fn is_taken(&self) -> bool {
        self.errno() == Some(nix::libc::EADDRINUSE)
    }

    /// True where the object exists already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }

    /// True where the object does not exist, so that a request to delete the object has nothing to do.
    pub fn is_missing(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(self, KernelError::Missing(_))
            || self.errno().is_some_and(|errno| [ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL].contains(&errno))
    }
}
