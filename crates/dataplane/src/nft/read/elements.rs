//! The kernel's elements as ours: halves of ranges joined, bytes made values. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::abi::{data, element};
use super::super::attributes::{find, long_number, number, verdict_of};
use super::super::expression::{Type, Value, Verdict};
use super::super::table::{Data, DataType, Element, Interval, Key, Set, SetFlags};
use super::super::wire;

/// An element as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawElement {
    /// The key; empty for the element that stands for all others.
    pub key: Vec<u8>,
    /// The last key of a range in a concatenation.
    pub key_end: Option<Vec<u8>>,
    /// True where `key` is the first one behind a range.
    pub is_end: bool,
    /// What a map's element holds.
    pub data: Option<RawData>,
    /// The time after which it expires.
    pub timeout: Option<Duration>,
}

/// What an element of a map holds, before its type is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawData {
    /// A verdict.
    Verdict(Verdict),
    /// A value.
    Bytes(Vec<u8>),
}

pub(super) fn raw(attributes: &[u8]) -> Option<RawElement> {
    let value = |kind| find(find(attributes, kind)?, data::VALUE).map(<[u8]>::to_vec);
    let flags = find(attributes, element::FLAGS).and_then(number).unwrap_or(0);
    let key = if flags & element::CATCHALL == 0 { value(element::KEY)? } else { Vec::new() };
    let held = find(attributes, element::DATA);
    let verdict = held.and_then(|held| find(held, data::VERDICT)).and_then(verdict_of).map(RawData::Verdict);
    let timeout = find(attributes, element::TIMEOUT).and_then(long_number).filter(|milliseconds| *milliseconds != 0);
    Some(RawElement {
        key,
        key_end: value(element::KEY_END),
        is_end: flags & element::INTERVAL_END != 0,
        data: verdict.or_else(|| value(element::DATA).map(RawData::Bytes)),
        timeout: timeout.map(Duration::from_millis),
    })
}

/// Elements of a set in which each element of the kernel's is one of ours; `None` for a set of ranges of one type.
pub(in crate::nft) fn single_elements(set: &Set, raw: Vec<RawElement>) -> Option<BTreeMap<Key, Element>> {
    if set.flags.has(SetFlags::INTERVAL) && set.key.len() == 1 {
        return None;
    }
    let typed = |one: RawElement| (key(&set.key, &one.key, one.key_end.as_deref()), element_of(set, one));
    Some(raw.into_iter().map(typed).collect())
}

/// The elements of a set from what the kernel lists.
pub fn assemble(set: &Set, mut raw: Vec<RawElement>) -> BTreeMap<Key, Element> {
    if !(set.flags.has(SetFlags::INTERVAL) && set.key.len() == 1) {
        return single_elements(set, raw).unwrap_or_default();
    }
    // Where one range ends and another begins, both halves have the same key: the end comes first.
    raw.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut elements = BTreeMap::new();
    let mut open: Option<RawElement> = None;
    for next in raw {
        if let Some(begun) = open.take() {
            let last = before(next.key.clone());
            elements.insert(key(&set.key, &begun.key, Some(&last)), element_of(set, begun));
        }
        // `nft` begins a set with the end of nothing.
        open = (!next.is_end).then_some(next);
    }
    if let Some(begun) = open {
        let last = vec![u8::MAX; begun.key.len()];
        elements.insert(key(&set.key, &begun.key, Some(&last)), element_of(set, begun));
    }
    elements
}

/// The value before; the highest for the lowest.
fn before(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().rev() {
        let (previous, borrow) = byte.overflowing_sub(1);
        *byte = previous;
        if !borrow {
            break;
        }
    }
    bytes
}

fn key(types: &[Type], first: &[u8], last: Option<&[u8]>) -> Key {
    if first.is_empty() {
        return Key(Vec::new());
    }
    let last = last.unwrap_or(first);
    let ends = wire::split(types, first).into_iter().zip(wire::split(types, last));
    Key(ends.map(|(first, last)| Interval { first, last }).collect())
}

fn element_of(set: &Set, raw: RawElement) -> Element {
    let data = raw.data.map(|data| match (data, &set.data) {
        (RawData::Verdict(verdict), _) => Data::Verdict(verdict),
        (RawData::Bytes(bytes), Some(DataType::Values(types))) => Data::Values(wire::split(types, &bytes)),
        (RawData::Bytes(bytes), _) => Data::Values(vec![Value::Bytes(bytes)]),
    });
    // A timeout equal to the set's own is left out.
    Element { data, timeout: raw.timeout.filter(|timeout| Some(*timeout) != set.timeout) }
}
