//! nftables over netlink: tables as values, written in atomic batches and read back to the element.
//!
//! Our own encoder: no `nft` binary and no C library. This room knows what a table is made of, not what for; which
//! table is ours and what belongs in it is the caller's. A socket stays in the network namespace of the thread that
//! opened it.

use std::fmt;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc::{ENOENT, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};

mod abi;
mod dump;
mod elements;
mod encode;
mod expression;
mod monitor;
mod operation;
pub mod read;
mod table;
mod text;
mod wire;
mod writer;

pub use encode::Invalid;
pub use expression::{
    AddressType, Expression, NatFlags, Op, Operand, Side, Statement, Type, Value, Verdict, protocol, state,
};
pub use monitor::{Action, Event, Monitor, Subject};
pub use operation::{Elements, Operation, Transaction};
pub use table::{
    Base, BaseChainFacts, Chain, ChainType, Data, DataType, Element, Family, Hook, Interval, Key, Policy, Rule,
    RuleWithHandle, Set, SetFlags, Table, TableId,
};

use crate::netlink::messages;
use crate::netlink_socket::{NetlinkSocket, Received, SocketError};
use encode::Batch;
use read::{Message, Record};

/// Why nftables could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation cannot be encoded. Nothing was sent.
    #[error("this cannot be written as nftables")]
    Invalid(#[from] Invalid),
    /// The kernel refused one operation, and with it the whole transaction.
    #[error("the kernel refused {what}: {}{}", io::Error::from_raw_os_error(*errno), Reason(reason))]
    Refused {
        /// Index of the operation; `None` where the transaction failed as a whole.
        operation: Option<usize>,
        /// The object that the refused message is about.
        what: String,
        /// The positive error number.
        errno: i32,
        /// The kernel's own sentence (extended ACK), where it gave one.
        reason: Option<String>,
    },
    /// The kernel's answer was lost; whether the transaction was committed is not known. Read before the next attempt.
    #[error("the kernel's answer to {0} nftables messages was lost: read the table again")]
    Unanswered(usize),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An answer could not be read.
    #[error("a netlink answer cannot be read")]
    Malformed(#[from] read::Malformed),
    /// The ruleset changed during each attempt to read it.
    #[error("the ruleset changed during each of {0} attempts to read it: try again")]
    NeverConsistent(u32),
}

struct Reason<'a>(&'a Option<String>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

impl Error {
    /// The error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::Socket(SocketError { source, .. }) => source.raw_os_error(),
            _ => None,
        }
    }

    /// True where an object that an operation names is not there (`ENOENT`).
    pub fn is_missing(&self) -> bool {
        self.errno() == Some(ENOENT)
    }
}

/// A netfilter socket of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    inner: NetlinkSocket,
    sequence: u32,
}

/// The kernel takes a batch in one `send` only, and its default send buffer holds about 200 KB: 2,000 elements.
const SEND_BUFFER_BYTES: usize = 64 << 20;

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = Self { inner: NetlinkSocket::request(NETLINK_NETFILTER)?, sequence: 0 };
        // Each refused message of a batch is answered. Where no more is permitted, small batches still work and large ones fail
        // with `EMSGSIZE`.
        socket.inner.make_much_room();
        if setsockopt(&socket.inner.inner, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&socket.inner.inner, sockopt::SndBuf, &SEND_BUFFER_BYTES);
        }
        Ok(socket)
    }

    /// The socket's address: notifications of what it asked for bear it.
    pub fn port(&self) -> u32 {
        self.inner.port
    }

    /// Applies all the operations in their order as one transaction, or none of them.
    ///
    /// # Errors
    /// [`Error::Refused`] names the first operation that the kernel refused. After [`Error::Unanswered`] the transaction may
    /// or may not have been committed; after any other error it has not.
    pub fn apply(&mut self, operations: &[Operation]) -> Result<(), Error> {
        let batch = Batch::of(operations, self.sequence.wrapping_add(1))?;
        let count = batch.subjects.len();
        if count == 0 {
            return Ok(());
        }
        self.sequence = self.sequence.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX)).wrapping_add(2);
        self.inner.send(&batch.bytes)?;
        self.outcome(&batch)
    }

    /// Reads the answers to a batch. The kernel has given them all by the time that `send` returns.
    fn outcome(&mut self, batch: &Batch) -> Result<(), Error> {
        let count = batch.subjects.len();
        let mut acknowledged = false;
        let mut refused = None;
        loop {
            let datagram = match self.inner.receive(MSG_DONTWAIT)? {
                Received::Some(datagram) => datagram,
                // Answers were dropped; those that were not are still to be read.
                Received::Lost => continue,
                Received::Nothing => break,
            };
            for bytes in messages(datagram) {
                let Message { sequence, record, .. } = read::parse_message(bytes)?;
                let index = sequence.wrapping_sub(batch.first) as usize;
                match record {
                    Record::Answer { errno: 0, .. } => acknowledged |= index == count,
                    Record::Answer { errno, reason } if index <= count && refused.is_none() => {
                        let subject = index.checked_sub(1).and_then(|index| batch.subjects.get(index));
                        let (operation, what) = match subject {
                            Some((operation, what)) => (Some(*operation), what.clone()),
                            None => (None, "the transaction".to_owned()),
                        };
                        refused = Some(Error::Refused { operation, what, errno, reason });
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(Error::Unanswered(count)),
        }
    }
}

#[cfg(test)]
mod tests;
