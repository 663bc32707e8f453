//! `NETLINK_ROUTE`: one blocking socket, many messages in flight, an answer matched to each.
//!
//! Blocking on purpose. The kernel answers within the `send` itself, so waiting costs nothing, and the short-lived
//! plugin pays for no runtime. It knows messages, not what they are for.

use std::fmt;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink_socket::NetlinkSocket;
pub use crate::netlink_socket::SocketError;

pub(crate) mod batch;
mod dump;
mod extack;
pub(crate) mod index;

pub(crate) use dump::parse;
pub use extack::parse_answer;

/// What the kernel said no to, or what kept us from asking.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refused one request.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), Reason(reason))]
    Refused {
        /// The positive error number.
        errno: i32,
        /// The kernel's own sentence (extended ACK), where it gave one.
        reason: Option<String>,
    },
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
    /// The object that the request is about does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Too many restarts of one dump: the table changes faster than it can be read.
    #[error("the kernel's table changed during each of {0} attempts to read it")]
    NeverConsistent(u32),
    /// An nftables transaction failed.
    #[error(transparent)]
    Nft(#[from] crate::nft::Error),
    /// A table of iptables-legacy could not be read.
    #[error(transparent)]
    Xtables(#[from] crate::xtables::Error),
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

struct Reason<'a>(&'a Option<String>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

impl KernelError {
    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused { errno, .. } => Some(*errno),
            KernelError::Socket(SocketError { source, .. }) | KernelError::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// True where the object is already there (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }

    /// True where the object is not there: what a delete may pass over.
    pub fn is_missing(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(self, KernelError::Missing(_))
            || self.errno().is_some_and(|errno| [ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL].contains(&errno))
    }
}

/// One message for the kernel, with the flags that say how to take it.
#[derive(Debug, Clone)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// A request that changes something; `flags` are `NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_REPLACE`, `NLM_F_APPEND`.
    pub fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { message, flags: flags | NLM_F_REQUEST }
    }

    fn serialize(&self, sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.sequence_number = sequence;
        header.flags = self.flags | if ack { NLM_F_ACK } else { 0 };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self.message.clone()));
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..start + message.buffer_len()]);
    }
}

/// A routing-netlink socket of the network namespace that it was opened in, for its whole life.
#[derive(Debug)]
pub struct Socket {
    inner: NetlinkSocket,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace, with extended ACKs and kernel-side dump filters.
    pub fn open() -> Result<Self, KernelError> {
        let inner = NetlinkSocket::request(NETLINK_ROUTE)?;
        let strict = inner.inner.set_netlink_get_strict_chk(true);
        strict.map_err(|source| SocketError { action: "ask for filtered dumps", source })?;
        Ok(Self { inner, sequence: 0 })
    }

    /// Makes room for `bytes` of answers, beyond the system's limit where permitted.
    pub fn reserve_receive_buffer(&self, bytes: usize) {
        self.inner.make_room(bytes);
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        Ok(self.inner.send(bytes)?)
    }

    /// Receives one datagram; `None` where the kernel dropped answers (`ENOBUFS`).
    fn receive(&mut self) -> Result<Option<&[u8]>, KernelError> {
        Ok(self.inner.receive(0)?.some())
    }
}

/// Splits a datagram into its messages, header included. What is left over after a wrong length is passed over.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return None;
        }
        let (message, rest) = (&datagram[..length], &datagram[length.next_multiple_of(4).min(datagram.len())..]);
        datagram = rest;
        Some(message)
    })
}

pub(crate) const HEADER_BYTES: usize = 16;

pub(crate) fn message_type(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

pub(crate) fn message_flags(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[6], message[7]])
}

fn message_sequence(message: &[u8]) -> u32 {
    u32::from_ne_bytes([message[8], message[9], message[10], message[11]])
}

/// The address of the socket whose request a notification tells of.
pub(crate) fn message_port(message: &[u8]) -> u32 {
    u32::from_ne_bytes([message[12], message[13], message[14], message[15]])
}

#[cfg(test)]
mod tests;
