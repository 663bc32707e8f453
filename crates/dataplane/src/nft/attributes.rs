//! The attributes of nftables' messages, one by one. Pure.

use super::abi::{data, verdict};
use super::expression::Verdict;
use crate::attribute;

pub(super) fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    attribute::iter(attributes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn long_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// A text of the kernel's, without the zero at its end.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(std::str::from_utf8(&bytes[..end]).ok()?.to_owned())
}

/// A verdict in `NFTA_DATA_VERDICT`.
pub(super) fn verdict_of(bytes: &[u8]) -> Option<Verdict> {
    let chain = || find(bytes, data::VERDICT_CHAIN).and_then(text);
    Some(match i32::from_be_bytes(find(bytes, data::VERDICT_CODE)?.try_into().ok()?) {
        verdict::ACCEPT => Verdict::Accept,
        verdict::DROP => Verdict::Drop,
        verdict::CONTINUE => Verdict::Continue,
        verdict::RETURN => Verdict::Return,
        verdict::JUMP => Verdict::Jump(chain()?),
        verdict::GOTO => Verdict::Goto(chain()?),
        _ => return None,
    })
}
