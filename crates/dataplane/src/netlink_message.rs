//! Netlink messages as bytes, whatever protocol they are of: their headers, and the kernel's answers. Pure.

use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR, NetlinkBuffer};

use crate::attribute;

const NLMSGERR_ATTR_MSG: u16 = 1;

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

/// Reads an ACK (`Ok`) or a refusal (`Err`) from one whole message; `None` where it is neither. Never panics.
pub fn parse_answer(message: &[u8]) -> Option<Result<(), Refusal>> {
    let header = NetlinkBuffer::new(message);
    if message.len() < HEADER_BYTES + 4 || header.message_type() != NLMSG_ERROR {
        return None;
    }
    let body = &message[HEADER_BYTES..];
    let code = i32::from_ne_bytes([body[0], body[1], body[2], body[3]]);
    if code == 0 {
        return Some(Ok(()));
    }
    Some(Err(Refusal { errno: code.saturating_neg(), reason: sentence(header.flags(), &body[4..]) }))
}

fn sentence(flags: u16, request: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // The answer repeats the request, capped to its header if the flag says so.
    let repeated = if flags & NLM_F_CAPPED == 0 {
        u32::from_ne_bytes(request.get(..4)?.try_into().ok()?) as usize
    } else {
        HEADER_BYTES
    };
    let attributes = request.get(repeated.next_multiple_of(4)..)?;
    let (_, text) = attribute::iter(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into_owned())
}
