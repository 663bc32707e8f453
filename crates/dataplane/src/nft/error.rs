//! What can go wrong with nftables.

use nix::libc::ENOENT;

use crate::netlink_message::Refusal;
use crate::netlink_socket::SocketError;

/// Why nftables could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation cannot be encoded. Nothing was sent.
    #[error("an operation cannot be written as an nftables message")]
    Invalid(#[from] super::encode::Invalid),
    /// A set cannot be held by the bytes of its elements.
    #[error(transparent)]
    Unfit(#[from] super::records::Unfit),
    /// The kernel refused one operation, and with it the whole transaction.
    #[error("the kernel refused {what}: {refusal}")]
    Refused {
        /// Index of the operation; `None` where the transaction failed as a whole.
        operation: Option<usize>,
        /// The object that the refused message is about.
        what: String,
        /// The error number, and the kernel's own sentence.
        refusal: Refusal,
    },
    /// The kernel's answer was lost; whether the transaction was committed is not known. Read before the next attempt.
    #[error("the kernel's answer to {0} nftables messages was lost: read the table again")]
    Unanswered(usize),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An answer could not be read.
    #[error("a netlink answer cannot be read")]
    Malformed(#[from] super::read::Malformed),
    /// The ruleset changed during each attempt to read it.
    #[error("the ruleset changed during each of {0} attempts to read it: try again")]
    NeverConsistent(u32),
}

impl Error {
    /// The error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { refusal, .. } => Some(refusal.errno),
            Error::Socket(SocketError { source, .. }) => source.raw_os_error(),
            _ => None,
        }
    }

    /// True where an object that an operation names is not there (`ENOENT`).
    pub fn is_missing(&self) -> bool {
        self.errno() == Some(ENOENT)
    }
}
