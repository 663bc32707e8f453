//! Echo requests as bytes (RFC 792, RFC 4443 section 4), and which request a received packet answers. Pure.

use crate::types::Family;

/// Header and token: the least that a request has after the IP header.
pub(super) const LEAST_BYTES: u32 = 20;
const HEADER: usize = 8;

/// Eight bytes behind the header by which our requests differ from those of other programs and of earlier rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) [u8; 8]);

impl Token {
    /// A request of so many bytes after the IP header. Its checksum is right for IPv4; for IPv6 the kernel makes it.
    pub(super) fn request(self, family: Family, place: usize, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[0] = if family == Family::V4 { 8 } else { 128 };
        let number = u32::try_from(place).unwrap_or(u32::MAX).to_be_bytes();
        packet[4..6].copy_from_slice(&self.0[..2]);
        packet[6..8].copy_from_slice(&number[2..]);
        packet[HEADER..HEADER + 8].copy_from_slice(&self.0);
        packet[HEADER + 8..HEADER + 12].copy_from_slice(&number);
        if family == Family::V4 {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// Which request a received message answers, if it is one of ours.
    pub(super) fn answer(self, family: Family, message: &[u8]) -> Option<usize> {
        let kind = if family == Family::V4 { 0 } else { 129 };
        if *message.first()? != kind || message.get(HEADER..HEADER + 8)? != self.0 {
            return None;
        }
        let number = message.get(HEADER + 8..HEADER + 12)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(number)).ok()
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    // A packet has less than 2^16 words, so the sum fits.
    let carried = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let sum = carried(carried(words.sum()));
    !u16::try_from(sum).unwrap_or_default()
}
