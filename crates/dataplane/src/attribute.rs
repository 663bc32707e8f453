//! Netlink attributes as bytes: type, length, value, padded to four.
//!
//! Pure, and the reader passes over whatever is cut short.

/// The bits of an attribute's type that hold its number: the upper two are flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// The attributes in `bytes` as (type without flags, value). Ends at the first that is cut short.
pub fn iter(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}
