//! ACKs and errors, with the kernel's own sentence about what is wrong (`NLMSGERR_ATTR_MSG`).

use super::{HEADER_BYTES, KernelError, message_flags, message_type};
use crate::attribute;

const NLMSG_ERROR: u16 = 2;
/// The request's payload is not repeated in the answer.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Reads an ACK (`Ok`) or a refusal (`Err`) from one whole message; `None` where it is neither. Never panics.
pub fn parse_answer(message: &[u8]) -> Option<Result<(), KernelError>> {
    if message.len() < HEADER_BYTES + 4 || message_type(message) != NLMSG_ERROR {
        return None;
    }
    let body = &message[HEADER_BYTES..];
    let code = i32::from_ne_bytes([body[0], body[1], body[2], body[3]]);
    if code == 0 {
        return Some(Ok(()));
    }
    Some(Err(KernelError::Refused {
        errno: code.saturating_neg(),
        reason: sentence(message_flags(message), &body[4..]),
    }))
}

fn sentence(flags: u16, request: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
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
