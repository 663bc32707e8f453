//! Netlink messages as bytes, whatever protocol they are of: their headers, and the kernel's answers. Pure.

use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};

use crate::attribute;

const NLMSGERR_ATTR_MSG: u16 = 1;
/// "Bad message", of `errno.h`.
const EBADMSG: i32 = 74;

/// `struct nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;

/// Splits a datagram into its messages, header included. Bytes after a message of a wrong length are skipped.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return None;
        }
        let (message, rest) = (&datagram[..length], &datagram[length.next_multiple_of(4).min(datagram.len())..]);
        datagram = rest;
        Some(message)
    })
}

/// The kernel's refusal of one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}{}",
    io::Error::from_raw_os_error(*errno),
    reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
)]
pub struct Refusal {
    /// The positive error number.
    pub errno: i32,
    /// The kernel's own sentence (`NLMSGERR_ATTR_MSG` of an extended ACK), where it gave one.
    pub reason: Option<String>,
}

/// Reads an ACK or the end of a list (`Ok`), or a refusal (`Err`), from one whole message; `None` where it is none of them. A list that
/// the kernel cannot go on with ends with an error number. A refusal without an error number, which no kernel sends, is `EBADMSG`. Never
/// panics.
pub fn parse_answer(message: &[u8]) -> Option<Result<(), Refusal>> {
    let (header, body) = (NetlinkBuffer::new(message), message.get(HEADER_BYTES..)?);
    let code = match (header.message_type(), body.first_chunk()) {
        (NLMSG_ERROR | NLMSG_DONE, Some(code)) => i32::from_ne_bytes(*code),
        (NLMSG_DONE, None) => 0,
        (NLMSG_ERROR, None) => -EBADMSG,
        _ => return None,
    };
    if code == 0 {
        return Some(Ok(()));
    }
    let reason = body.get(4..).and_then(|rest| sentence(&header, rest));
    Some(Err(Refusal { errno: code.saturating_neg(), reason }))
}

fn sentence(header: &NetlinkBuffer<&[u8]>, rest: &[u8]) -> Option<String> {
    let flags = header.flags();
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // An answer repeats the request, capped to its header if the flag says so; the end of a list does not.
    let repeated = match (header.message_type(), flags & NLM_F_CAPPED) {
        (NLMSG_DONE, _) => 0,
        (_, 0) => u32::from_ne_bytes(*rest.first_chunk()?) as usize,
        _ => HEADER_BYTES,
    };
    let attributes = rest.get(repeated.next_multiple_of(4)..)?;
    let (_, text) = attribute::iter(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests;
