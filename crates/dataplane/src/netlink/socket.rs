//! One blocking socket of `NETLINK_ROUTE`, and the requests that it sends.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::KernelError;
use crate::netlink_socket::{NetlinkSocket, SocketError};

/// One request to the kernel, with its flags.
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

    pub(super) fn serialize(&self, sequence: u32, flags: u16, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.sequence_number = sequence;
        header.flags = self.flags | flags;
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
    pub(super) inner: NetlinkSocket,
    pub(super) sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace, with extended ACKs and kernel-side dump filters.
    pub fn open() -> Result<Self, KernelError> {
        let inner = NetlinkSocket::request(NETLINK_ROUTE)?;
        let strict = inner.inner.set_netlink_get_strict_chk(true);
        strict.map_err(|source| SocketError { action: "ask for filtered dumps", source })?;
        Ok(Self { inner, sequence: 0 })
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}
