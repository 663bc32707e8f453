//! The elements of a large set or map, held by the bytes that the kernel knows them by. Pure.
//!
//! A map may have 250,000 elements, and a [`super::Element`] with its key costs some hundred bytes. Here an element costs its key, its
//! data and four bytes for its comment, one behind the other in pages, sorted by key. A page has at most [`PAGE`] elements, so
//! that a change moves few bytes. Verdicts are kept once each. A comment is kept once for neighbours that share it: in a map of
//! endpoints by service these are the endpoints of one service.

mod record;
mod texts;

use super::expression::Verdict;
use super::table::{Data, DataType, Element, Set, SetFlags};
use super::value::Key;
use super::value::{Type, Value};
use super::{userdata, wire};
use texts::{TEXT_BYTES, Texts};

pub use record::{ElementRecord, ElementRecordData};

/// The most elements of a page.
const PAGE: usize = 128;
/// For how many more elements a page that is full gets room.
const ROOM: usize = 4;
/// The place of a verdict among the verdicts.
const VERDICT_BYTES: usize = 4;

/// Why a value cannot be held as an element of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The key's values are not of the types of the set's key.
    #[error("the key is not of the types of the set's key")]
    Key,
    /// The data is not what the map's elements hold.
    #[error("the data is not of the types of the map's data")]
    Data,
    /// An element has what only [`Element`] can hold.
    #[error("ranges and timeouts cannot be held by their bytes: use typed elements")]
    Range,
    /// The comment cannot be written.
    #[error("the comment is too long or has a zero byte: it may have at most 127 bytes")]
    Comment,
}

/// Elements of one set or map without ranges and timeouts, sorted by the bytes of their keys.
#[derive(Clone)]
pub struct Records {
    key: Vec<Type>,
    data: Option<DataType>,
    /// Bytes of a key, and of what is kept of an element's data.
    key_bytes: usize,
    data_bytes: usize,
    /// Each has elements; keys grow from page to page.
    pages: Vec<Vec<u8>>,
    len: usize,
    comments: Texts,
    verdicts: Vec<Verdict>,
}

impl Records {
    /// None yet, for a set with this key and this data. `None` for a set with ranges.
    pub fn of(set: &Set) -> Option<Self> {
        (!set.flags.has(SetFlags::INTERVAL)).then(|| Self::with_types(set.key.clone(), set.data.clone()))
    }

    fn with_types(key: Vec<Type>, data: Option<DataType>) -> Self {
        let data_bytes = match &data {
            None => 0,
            Some(DataType::Verdict) => VERDICT_BYTES,
            Some(DataType::Values(types)) => wire::joined_bytes(types),
        };
        Self {
            key_bytes: wire::joined_bytes(&key),
            data_bytes,
            key,
            data,
            pages: Vec::new(),
            len: 0,
            comments: Texts::default(),
            verdicts: Vec::new(),
        }
    }

    /// None yet, for the same set.
    #[must_use]
    pub fn empty(&self) -> Self {
        Self::with_types(self.key.clone(), self.data.clone())
    }

    /// The elements of a set as typed values.
    ///
    /// # Errors
    /// Where one of them cannot be held.
    pub fn from_elements<'e>(
        set: &Set,
        elements: impl IntoIterator<Item = (&'e Key, &'e Element)>,
    ) -> Result<Self, Unfit> {
        let mut records = Self::of(set).ok_or(Unfit::Range)?;
        for (key, element) in elements {
            records.insert_element(key, element)?;
        }
        Ok(records)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = ElementRecord<'_>> {
        let records = self.pages.iter().flat_map(|page| page.chunks_exact(self.stride()));
        records.map(|bytes| ElementRecord { of: self, bytes })
    }

    /// The element with this key.
    pub fn get(&self, key: &[Value]) -> Option<ElementRecord<'_>> {
        self.get_bytes(&wire::join(key.iter()))
    }

    /// The element whose key has these bytes.
    pub fn get_bytes(&self, key: &[u8]) -> Option<ElementRecord<'_>> {
        let (page, place) = self.find(key).ok()?;
        Some(ElementRecord { of: self, bytes: self.bytes_at(page, place) })
    }

    /// Puts an element, in place of the one that has its key.
    ///
    /// # Errors
    /// Where the values are not those of the set.
    pub fn insert(&mut self, key: &[Value], data: Option<&Data>, comment: Option<&str>) -> Result<(), Unfit> {
        if !key.iter().map(Value::kind).eq(self.key.iter().copied()) {
            return Err(Unfit::Key);
        }
        let data = match (data, &self.data) {
            (None, None) => Vec::new(),
            (Some(Data::Verdict(verdict)), Some(DataType::Verdict)) => self.keep_verdict(verdict).to_vec(),
            (Some(Data::Values(values)), Some(DataType::Values(types)))
                if values.iter().map(Value::kind).eq(types.iter().copied()) =>
            {
                wire::join(values.iter())
            }
            _ => return Err(Unfit::Data),
        };
        userdata::comment(comment).map_err(|_| Unfit::Comment)?;
        self.put(&wire::join(key.iter()), &data, comment);
        Ok(())
    }

    /// Puts an element that is given as a typed one.
    ///
    /// # Errors
    /// Where the element is not one of the set's, or has a range or a timeout.
    pub fn insert_element(&mut self, Key(key): &Key, element: &Element) -> Result<(), Unfit> {
        if key.is_empty() || element.timeout.is_some() || key.iter().any(|part| part.first != part.last) {
            return Err(Unfit::Range);
        }
        let key: Vec<_> = key.iter().map(|part| part.first.clone()).collect();
        self.insert(&key, element.data.as_ref(), element.comment.as_deref())
    }

    /// Puts a copy of an element of the same set's.
    pub fn copy(&mut self, record: ElementRecord<'_>) {
        let data = match record.data() {
            ElementRecordData::None => Vec::new(),
            ElementRecordData::Values(bytes) => bytes.to_vec(),
            ElementRecordData::Verdict(verdict) => self.keep_verdict(verdict).to_vec(),
        };
        self.put(record.key(), &data, record.comment());
    }

    /// Removes the element with this key; false where there is none.
    pub fn remove(&mut self, key: &[Value]) -> bool {
        self.remove_bytes(&wire::join(key.iter()))
    }

    /// Removes the element whose key has these bytes; false where there is none.
    pub fn remove_bytes(&mut self, key: &[u8]) -> bool {
        let Ok((page, place)) = self.find(key) else { return false };
        let (start, stride) = (place * self.stride(), self.stride());
        self.pages[page].drain(start..start + stride);
        if self.pages[page].is_empty() {
            self.pages.remove(page);
        }
        self.len -= 1;
        true
    }

    /// The bytes that are held for all elements together, unused room included.
    pub fn allocated(&self) -> usize {
        let pages: usize = self.pages.iter().map(Vec::capacity).sum();
        let verdicts = self.verdicts.capacity() * size_of::<Verdict>();
        size_of::<Self>() + pages + self.pages.capacity() * size_of::<Vec<u8>>() + self.comments.allocated() + verdicts
    }

    /// Bytes of an element.
    fn stride(&self) -> usize {
        self.key_bytes + self.data_bytes + TEXT_BYTES
    }

    fn bytes_at(&self, page: usize, place: usize) -> &[u8] {
        let stride = self.stride();
        &self.pages[page][place * stride..(place + 1) * stride]
    }

    /// The page and the place in it of a key, or else where the key belongs.
    fn find(&self, key: &[u8]) -> Result<(usize, usize), (usize, usize)> {
        let later = self.pages.partition_point(|page| page[..self.key_bytes] <= *key);
        let page = later.saturating_sub(1);
        let Some(bytes) = self.pages.get(page) else { return Err((0, 0)) };
        let stride = self.stride();
        let key_at = |place: usize| &bytes[place * stride..place * stride + self.key_bytes];
        let (mut low, mut high) = (0, bytes.len() / stride);
        while low < high {
            let middle = low.midpoint(high);
            if key_at(middle) < key { low = middle + 1 } else { high = middle }
        }
        let is_there = low < bytes.len() / stride && key_at(low) == key;
        if is_there { Ok((page, low)) } else { Err((page, low)) }
    }

    /// Puts an element, of which key and data have the right lengths.
    fn put(&mut self, key: &[u8], data: &[u8], comment: Option<&str>) {
        let (mut page, mut place) = match self.find(key) {
            Ok((page, place)) => {
                // What is kept of the former comment is reused where the comment stays.
                let text = self.comment_at(page, place, comment);
                let text = text.unwrap_or_else(|| self.keep_comment(page, place, comment));
                let (start, data_start) = (place * self.stride(), place * self.stride() + self.key_bytes);
                let end = start + self.stride();
                self.pages[page][data_start..end - TEXT_BYTES].copy_from_slice(data);
                self.pages[page][end - TEXT_BYTES..end].copy_from_slice(&text);
                return;
            }
            Err(place) => place,
        };
        let text = self.keep_comment(page, place, comment);
        let stride = self.stride();
        match self.pages.get_mut(page) {
            None => self.pages.push(Vec::new()),
            Some(full) if full.len() / stride == PAGE => {
                // Elements often come in the order of their keys: then the page stays full.
                let cut = if page + 1 == self.pages.len() && place == PAGE { PAGE } else { PAGE / 2 };
                let full = &mut self.pages[page];
                let rest = full[cut * stride..].to_vec();
                full.truncate(cut * stride);
                full.shrink_to_fit();
                self.pages.insert(page + 1, rest);
                if place >= cut {
                    (page, place) = (page + 1, place - cut);
                }
            }
            Some(_) => {}
        }
        let page = &mut self.pages[page];
        if page.capacity() - page.len() < stride {
            page.reserve_exact(ROOM * stride);
        }
        let start = place * stride;
        page.splice(start..start, key.iter().chain(data).chain(&text).copied());
        self.len += 1;
    }

    /// The place of the comment of an element, where that is this comment.
    fn comment_at(&self, page: usize, place: usize, comment: Option<&str>) -> Option<[u8; TEXT_BYTES]> {
        let neighbours = self.pages.get(page)?;
        (place < neighbours.len() / self.stride()).then_some(())?;
        let record = ElementRecord { of: self, bytes: self.bytes_at(page, place) };
        (record.comment() == comment).then(|| record.text())
    }

    /// Keeps the comment of an element that comes to this place.
    fn keep_comment(&mut self, page: usize, place: usize, comment: Option<&str>) -> [u8; TEXT_BYTES] {
        let Some(text) = comment else { return Texts::NONE };
        let before = place.checked_sub(1).and_then(|before| self.comment_at(page, before, comment));
        if let Some(kept) = before.or_else(|| self.comment_at(page, place, comment)) {
            return kept;
        }
        if self.comments.is_mostly_unused() {
            self.sweep_comments();
        }
        self.comments.keep(text)
    }

    /// Lets go of the comments that no element has any more.
    fn sweep_comments(&mut self) {
        let former = std::mem::take(&mut self.comments);
        let stride = self.stride();
        let mut last = (Texts::NONE, Texts::NONE);
        for bytes in self.pages.iter_mut().flat_map(|page| page.chunks_exact_mut(stride)) {
            let Some(text) = bytes.last_chunk_mut::<TEXT_BYTES>() else { continue };
            if *text != last.0 {
                last = (*text, former.get(*text).map_or(Texts::NONE, |kept| self.comments.keep(kept)));
            }
            *text = last.1;
        }
        self.comments.swept();
    }

    /// The place of a verdict among those that are kept.
    fn keep_verdict(&mut self, verdict: &Verdict) -> [u8; VERDICT_BYTES] {
        let place = self.verdicts.iter().position(|kept| kept == verdict).unwrap_or_else(|| {
            self.verdicts.push(verdict.clone());
            self.verdicts.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX).to_ne_bytes()
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.data) == (&other.key, &other.data) && self.iter().eq(other.iter())
    }
}

impl Eq for Records {}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
