//! Many requests in one send, each matched with its outcome.

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_ACK;

use super::socket::{Request, Socket};
use crate::error::KernelError;
use crate::netlink_message::{message_sequence, messages, parse_answer};
use crate::netlink_socket::SocketError;

/// How many requests go out at once. All may fail, and the default receive buffer holds about 256 answers.
pub(crate) const PER_SEND: usize = 100;

impl Socket {
    /// Carries out `requests` in their order and gives the outcome of each.
    ///
    /// A refused request does not stop the others. Only the last of a datagram asks for an ACK: the kernel reports
    /// errors in any case, so a request without an error before that ACK has succeeded.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<(), KernelError>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(PER_SEND) {
            outcomes.extend(self.one_send(chunk));
        }
        outcomes
    }

    /// Carries out one request.
    pub fn request(&mut self, request: Request) -> Result<(), KernelError> {
        self.batch(&[request]).pop().unwrap_or(Ok(()))
    }

    fn one_send(&mut self, chunk: &[Request]) -> Vec<Result<(), KernelError>> {
        let mut bytes = Vec::with_capacity(chunk.len() * 128);
        let first = self.sequence.wrapping_add(1);
        for (place, request) in chunk.iter().enumerate() {
            let sequence = self.next_sequence();
            let is_last = place + 1 == chunk.len();
            request.serialize(sequence, if is_last { NLM_F_ACK } else { 0 }, &mut bytes);
        }
        match self.refusals(&bytes, first) {
            Ok(mut refusals) => (0..chunk.len()).map(|place| refusals.remove(&place).map_or(Ok(()), Err)).collect(),
            Err(error) => {
                // Which of them were carried out is not known: none counts as done.
                let reason = error.to_string();
                let unknown = |_| Err(KernelError::Malformed { length: 0, reason: reason.clone() });
                let rest: Vec<_> = (1..chunk.len()).map(unknown).collect();
                std::iter::once(Err(error)).chain(rest).collect()
            }
        }
    }

    /// Sends requests of which the last one has the socket's sequence number, and reads the answers up to that one's. The
    /// refusals by their place in the send.
    fn refusals(&mut self, bytes: &[u8], first: u32) -> Result<BTreeMap<usize, KernelError>, KernelError> {
        let (last, mut refusals) = (self.sequence, BTreeMap::new());
        self.inner.send(bytes)?;
        loop {
            let Some(datagram) = self.inner.receive(0)?.some() else {
                let source = std::io::Error::from_raw_os_error(nix::libc::ENOBUFS);
                return Err(SocketError { action: "receive every answer", source }.into());
            };
            let mut finished = false;
            for message in messages(datagram) {
                let sequence = message_sequence(message);
                let place = sequence.wrapping_sub(first) as usize;
                if place > last.wrapping_sub(first) as usize {
                    continue; // an answer to an earlier dump that was given up
                }
                if let Some(Err(refusal)) = parse_answer(message) {
                    refusals.insert(place, refusal.into());
                }
                finished |= sequence == last;
            }
            if finished {
                return Ok(refusals);
            }
        }
    }
}
