//! The attributes of nftables' messages, as they are read. Pure.

use std::time::Duration;

use super::abi::data;
use crate::attribute;

/// Attributes behind each other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes<'m>(pub(crate) &'m [u8]);

impl<'m> Attributes<'m> {
    /// The attributes of a list, each of which holds attributes.
    pub(crate) fn list(self) -> impl Iterator<Item = Attributes<'m>> {
        attribute::iter(self.0).map(|(_, value)| Attributes(value))
    }

    /// The value of an attribute.
    pub(crate) fn get(self, kind: u16) -> Option<&'m [u8]> {
        attribute::iter(self.0).find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(crate) fn long_number(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A time, which is none where it is 0.
    pub(crate) fn milliseconds(self, kind: u16) -> Option<Duration> {
        self.long_number(kind).filter(|milliseconds| *milliseconds != 0).map(Duration::from_millis)
    }

    pub(crate) fn text(self, kind: u16) -> Option<String> {
        text(self.get(kind)?)
    }

    /// The attributes within an attribute; none where the attribute is absent.
    pub(crate) fn nest(self, kind: u16) -> Attributes<'m> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    /// The bytes of a value within an attribute (`NFTA_DATA_VALUE`).
    pub(crate) fn value(self, kind: u16) -> Option<&'m [u8]> {
        self.nest(kind).get(data::VALUE)
    }
}

/// A text of the kernel's, without the zero at its end.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(std::str::from_utf8(&bytes[..end]).ok()?.to_owned())
}
