//! Netlink messages as bytes: headers and attributes, appended to one buffer. Pure.

use std::time::Duration;

use super::abi::{SUBSYSTEM, data};

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NFNETLINK_V0`.
const VERSION: u8 = 0;

/// The bytes so far.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// True where an attribute grew beyond what its length of 16 bits can say.
    pub(crate) overflow: bool,
}

impl Writer {
    /// Appends a message of nfnetlink: its header, then what `body` writes.
    pub(crate) fn message(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        (family, resource): (u8, u16),
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, VERSION]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend(value));
    }

    /// Appends a text, which the kernel wants with a zero at its end.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend(text.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// Appends a number in network byte order, as nearly all of nftables is.
    pub(crate) fn number(&mut self, kind: u16, number: u32) {
        self.put(kind, &number.to_be_bytes());
    }

    /// Appends a length in bytes.
    pub(crate) fn length(&mut self, kind: u16, bytes: usize) {
        self.number(kind, u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Appends a time.
    pub(crate) fn milliseconds(&mut self, kind: u16, time: Duration) {
        self.put(kind, &u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
    }

    /// Appends an attribute that holds what `body` writes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    /// Appends the bytes of a value as data.
    pub(crate) fn value(&mut self, kind: u16, bytes: &[u8]) {
        self.nest(kind, |writer| writer.put(data::VALUE, bytes));
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.overflow = true;
            u16::MAX
        });
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The number of a message of nftables.
pub(crate) fn nftables(kind: u8) -> u16 {
    u16::from(SUBSYSTEM) << 8 | u16::from(kind)
}
