//! `NETLINK_ROUTE`: one blocking socket, many messages in flight, an answer matched to each.
//!
//! Blocking on purpose. The kernel answers within the `send` itself, so waiting costs nothing, and the short-lived plugin needs
//! no runtime. This module carries messages and does not know what they are for.

mod dump;
pub(crate) mod index;
mod nexthop;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink_message::messages;
use crate::netlink_socket::{NetlinkSocket, Received};

pub use crate::error::KernelError;
pub use crate::netlink_message::parse_answer;
pub use crate::netlink_socket::SocketError;
pub(crate) use dump::parse;

/// How many requests go out at once. All may fail, and the default receive buffer holds about 256 answers.
pub(crate) const PER_SEND: usize = 100;

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
}

/// A routing-netlink socket of the network namespace that it was opened in, for its whole life.
#[derive(Debug)]
pub struct RouteSocket {
    inner: NetlinkSocket,
    sequence: u32,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace, with extended ACKs and kernel-side dump filters.
    pub fn open() -> Result<Self, KernelError> {
        let inner = NetlinkSocket::request(NETLINK_ROUTE)?;
        let strict = inner.inner.set_netlink_get_strict_chk(true);
        strict.map_err(|source| SocketError { action: "ask for filtered dumps", source })?;
        Ok(Self { inner, sequence: 0 })
    }

    /// Carries out one request.
    pub fn request(&mut self, request: Request) -> Result<(), KernelError> {
        self.batch(&[request]).pop().unwrap_or(Ok(()))
    }

    /// Carries out `requests` in their order and gives the outcome of each.
    ///
    /// A refused request does not stop the others. Only the last of a datagram asks for an ACK: the kernel reports
    /// errors in any case, so a request without an error before that ACK has succeeded.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<(), KernelError>> {
        requests.chunks(PER_SEND).flat_map(|chunk| self.one_send(chunk)).collect()
    }

    fn one_send(&mut self, chunk: &[Request]) -> Vec<Result<(), KernelError>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(chunk.len() * 128);
        for (request, left) in chunk.iter().zip((0..chunk.len()).rev()) {
            self.serialize(request, if left == 0 { NLM_F_ACK } else { 0 }, &mut bytes);
        }
        let mut outcomes: Vec<_> = chunk.iter().map(|_| Ok(())).collect();
        if let Err(error) = self.send_and_receive(&bytes, first, &mut outcomes) {
            // Which of them were carried out is not known: none counts as done.
            let reason = error.to_string();
            outcomes.fill_with(|| Err(KernelError::Malformed { length: 0, reason: reason.clone() }));
            outcomes[0] = Err(error);
        }
        outcomes
    }

    /// Sends requests, and reads the answers up to that to the last one. Refusals go to the places of their requests.
    fn send_and_receive(
        &mut self,
        bytes: &[u8],
        first: u32,
        outcomes: &mut [Result<(), KernelError>],
    ) -> Result<(), KernelError> {
        self.inner.send(bytes)?;
        let mut is_finished = false;
        while !is_finished {
            let Received::Some(datagram) = self.inner.receive(0)? else {
                let source = std::io::Error::from_raw_os_error(nix::libc::ENOBUFS);
                return Err(SocketError { action: "receive every answer", source }.into());
            };
            for message in messages(datagram) {
                let sequence = NetlinkBuffer::new(message).sequence_number();
                // An answer to an earlier dump that was given up has no place.
                let Some(outcome) = outcomes.get_mut(sequence.wrapping_sub(first) as usize) else { continue };
                if let Some(Err(refusal)) = parse_answer(message) {
                    *outcome = Err(refusal.into());
                }
                is_finished |= sequence == self.sequence;
            }
        }
        Ok(())
    }

    /// Appends a request under the next sequence number.
    fn serialize(&mut self, request: &Request, flags: u16, buffer: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = request.flags | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.message.clone()));
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..start + message.buffer_len()]);
    }
}

#[cfg(test)]
mod tests;
