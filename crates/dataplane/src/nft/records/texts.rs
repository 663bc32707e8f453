//! Short texts behind each other, each found by its place. Pure.

/// The bytes of a text's place.
pub(super) const TEXT_BYTES: usize = 4;

/// So many bytes of texts that nobody uses are never worth a sweep.
const SLACK_BYTES: usize = 64 * 1024;

/// Texts of at most 255 bytes, each behind its length.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// How many of the bytes were in use after the last sweep.
    swept: usize,
}

impl Texts {
    /// The place of no text.
    pub(super) const NONE: [u8; TEXT_BYTES] = [0; TEXT_BYTES];

    /// Appends a text, and gives its place.
    pub(super) fn keep(&mut self, text: &str) -> [u8; TEXT_BYTES] {
        let needed = 1 + text.len();
        if self.bytes.capacity() - self.bytes.len() < needed {
            self.bytes.reserve_exact(needed.max(self.bytes.len() / 16).max(256));
        }
        // Places are counted from 1: 0 is none.
        let place = u32::try_from(self.bytes.len() + 1).unwrap_or(0);
        self.bytes.push(u8::try_from(text.len()).unwrap_or(0));
        self.bytes.extend(text.as_bytes());
        place.to_ne_bytes()
    }

    /// The text at a place.
    pub(super) fn get(&self, place: [u8; TEXT_BYTES]) -> Option<&str> {
        let start = u32::from_ne_bytes(place).checked_sub(1)? as usize;
        let length = usize::from(*self.bytes.get(start)?);
        std::str::from_utf8(self.bytes.get(start + 1..start + 1 + length)?).ok()
    }

    /// True where a sweep would probably halve the texts.
    pub(super) fn is_mostly_unused(&self) -> bool {
        self.bytes.len() > 2 * self.swept + SLACK_BYTES
    }

    /// Every text is in use.
    pub(super) fn swept(&mut self) {
        self.swept = self.bytes.len();
    }

    pub(super) fn allocated(&self) -> usize {
        self.bytes.capacity()
    }
}
