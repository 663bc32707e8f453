//! Reading: one object, or a whole table that starts over when it changed on the way.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::socket::{Request, Socket};
use crate::error::KernelError;
use crate::netlink_message::{message_flags, message_sequence, message_type, messages, parse_answer};
use crate::netlink_socket::SocketError;

const NLMSG_DONE: u16 = 3;
/// A table that changes during each of this many reads is an error.
const ATTEMPTS: u32 = 20;

enum Read {
    Whole,
    StartOver,
}

impl Socket {
    /// Reads a table whole: `keep` turns messages into entries and passes over what is not wanted.
    ///
    /// It starts over where the kernel says that the table changed meanwhile (`NLM_F_DUMP_INTR`) or dropped a part
    /// (`ENOBUFS`), so what it gives is one consistent state.
    pub fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        keep: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let request = Request::new(message, NLM_F_DUMP);
        let mut entries = Vec::new();
        for _ in 0..ATTEMPTS {
            entries.clear();
            let sequence = self.next_sequence();
            let mut bytes = Vec::new();
            request.serialize(sequence, false, &mut bytes);
            self.send(&bytes)?;
            if let Read::Whole = self.read_dump(sequence, &keep, &mut entries)? {
                return Ok(entries);
            }
        }
        Err(KernelError::NeverConsistent(ATTEMPTS))
    }

    fn read_dump<T>(
        &mut self,
        sequence: u32,
        keep: &impl Fn(RouteNetlinkMessage) -> Option<T>,
        entries: &mut Vec<T>,
    ) -> Result<Read, KernelError> {
        let mut interrupted = false;
        loop {
            let Some(datagram) = self.receive()? else {
                return Ok(Read::StartOver);
            };
            for message in messages(datagram).filter(|message| message_sequence(message) == sequence) {
                interrupted |= message_flags(message) & NLM_F_DUMP_INTR != 0;
                if message_type(message) == NLMSG_DONE {
                    return Ok(if interrupted { Read::StartOver } else { Read::Whole });
                }
                match parse_answer(message) {
                    Some(Err(refusal)) if refusal.errno == nix::libc::EBUSY => return Ok(Read::StartOver),
                    Some(Err(refusal)) => return Err(refusal.into()),
                    Some(Ok(())) => {}
                    // An entry of a kind that we cannot read is not ours: it must not hide the others.
                    None => entries.extend(parse(message).ok().and_then(keep)),
                }
            }
        }
    }

    /// Reads one object; `None` where it does not exist.
    pub fn get(&mut self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, KernelError> {
        let request = Request::new(message, 0);
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        request.serialize(sequence, false, &mut bytes);
        self.send(&bytes)?;
        loop {
            let Some(datagram) = self.receive()? else {
                let source = std::io::Error::from_raw_os_error(nix::libc::ENOBUFS);
                return Err(SocketError { action: "receive the answer", source }.into());
            };
            if let Some(message) = messages(datagram).find(|message| message_sequence(message) == sequence) {
                return match parse_answer(message).map(|answer| answer.map_err(KernelError::from)) {
                    Some(Err(error)) if error.is_missing() => Ok(None),
                    Some(Err(error)) => Err(error),
                    Some(Ok(())) => Ok(None),
                    None => parse(message).map(Some),
                };
            }
        }
    }
}

/// Reads one whole routing message. Never panics.
pub(crate) fn parse(message: &[u8]) -> Result<RouteNetlinkMessage, KernelError> {
    let fault = |reason: String| KernelError::Malformed { length: message.len(), reason };
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(|error| fault(error.to_string()))?.payload
    {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        other => Err(fault(format!("not a routing message but {other:?}"))),
    }
}
