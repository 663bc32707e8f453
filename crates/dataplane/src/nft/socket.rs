//! A socket of `NETLINK_NETFILTER`: applies transactions. Reading is in [`super::dump`].

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc::MSG_DONTWAIT;
use nix::sys::socket::{setsockopt, sockopt};

use super::encode::Batch;
use super::error::Error;
use super::operation::Operation;
use super::read::{self, Message, Payload};
use crate::netlink_message::messages;
use crate::netlink_socket::{NetlinkSocket, Received};

/// A netfilter socket of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    pub(super) inner: NetlinkSocket,
    pub(super) sequence: u32,
}

/// The kernel takes a batch in one `send` only, and its default send buffer holds about 200 KB: 2,000 elements.
const SEND_BUFFER_BYTES: usize = 64 << 20;

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = Self { inner: NetlinkSocket::request(NETLINK_NETFILTER)?, sequence: 0 };
        // Where no more is permitted, small batches still work and large ones fail with `EMSGSIZE`.
        if setsockopt(&socket.inner.inner, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&socket.inner.inner, sockopt::SndBuf, &SEND_BUFFER_BYTES);
        }
        Ok(socket)
    }

    /// The socket's port: notifications of changes that this socket made hold it.
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
        self.inner.send(&batch.writer.bytes)?;
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
                let Message { sequence, payload, .. } = read::parse_message(bytes)?;
                let index = sequence.wrapping_sub(batch.first) as usize;
                match payload {
                    Payload::Answer(Ok(())) => acknowledged |= index == count,
                    Payload::Answer(Err(refusal)) if index <= count && refused.is_none() => {
                        let subject = index.checked_sub(1).and_then(|index| batch.subjects.get(index));
                        let what = subject.map_or("the transaction", |(_, what)| what).to_owned();
                        let operation = subject.map(|(operation, _)| *operation);
                        refused = Some(Error::Refused { operation, what, refusal });
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
