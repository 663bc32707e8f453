//! Elements of sets as attributes, both ways. Pure.
//!
//! Three shapes: a plain key; a key with the end of its ranges (concatenations with ranges); and, for ranges of one
//! type, two elements each, where the second is marked as the end and is the first value outside.

use std::collections::BTreeMap;

use super::abi::{self, counter, element, element_flag};
use super::attributes::Attributes;
use super::expression::Verdict;
use super::table::{Counter, Data, DataType, Element, Set, SetFlags, Usage};
use super::value::Value;
use super::value::{Interval, Key};
use super::writer::Writer;
use super::{userdata, wire};

/// Says what is wrong with an element of a set with these flags.
pub(super) fn check(set: SetFlags, Key(key): &Key, held: &Element) -> Result<(), &'static str> {
    let is_sound = |Interval { first, last }: &Interval| {
        first.kind() == last.kind() && (first == last || (first.kind().is_ordered() && first <= last))
    };
    if !key.iter().all(is_sound) {
        return Err("an interval must begin and end with values of one type, the lower first");
    }
    if !set.has(SetFlags::INTERVAL) && key.iter().any(|interval| interval.first != interval.last) {
        return Err("only a set with the interval flag can hold ranges");
    }
    userdata::comment(held.comment.as_deref()).map(drop)
}

/// Writes one element of a set with these flags.
pub(super) fn write(writer: &mut Writer, set: SetFlags, Key(key): &Key, held: &Element) {
    let first = wire::join(key.iter().map(|interval| &interval.first));
    let last = wire::join(key.iter().map(|interval| &interval.last));
    writer.nest(abi::LIST_ELEM, |writer| {
        if key.is_empty() {
            writer.number(element::FLAGS, element_flag::CATCHALL);
        } else {
            writer.value(element::KEY, &first);
        }
        if set.has(SetFlags::INTERVAL) && key.len() > 1 {
            writer.value(element::KEY_END, &last);
        }
        match &held.data {
            None => {}
            Some(Data::Verdict(verdict)) => writer.nest(element::DATA, |writer| verdict.write(writer)),
            Some(Data::Values(values)) => writer.value(element::DATA, &wire::join(values.iter())),
        }
        if let Some(timeout) = held.timeout {
            writer.milliseconds(element::TIMEOUT, timeout);
            if let Some(expires) = held.usage.expires {
                writer.milliseconds(element::EXPIRATION, expires.min(timeout));
            }
        }
        if let Ok(Some(comment)) = userdata::comment(held.comment.as_deref()) {
            writer.put(element::USERDATA, &comment);
        }
    });
    // A range that reaches the highest value has no end: there is nothing outside.
    if set.has(SetFlags::INTERVAL)
        && key.len() == 1
        && let (end, false) = step(last, |byte| byte.overflowing_add(1))
    {
        writer.nest(abi::LIST_ELEM, |writer| {
            writer.value(element::KEY, &end);
            writer.number(element::FLAGS, element_flag::INTERVAL_END);
        });
    }
}

/// Bytes as a number, one up or down, and true where the number has wrapped around.
fn step(mut bytes: Vec<u8>, step: fn(u8) -> (u8, bool)) -> (Vec<u8>, bool) {
    for byte in bytes.iter_mut().rev() {
        let (next, carries) = step(*byte);
        *byte = next;
        if !carries {
            return (bytes, false);
        }
    }
    (bytes, true)
}

/// An element as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawElement {
    /// The key; empty for the element that stands for all others.
    pub key: Vec<u8>,
    /// The last key of a range in a concatenation.
    pub key_end: Option<Vec<u8>>,
    /// True where `key` is the first one behind a range.
    pub is_end: bool,
    /// What it holds. A value is [`Value::Bytes`], since the type is known from the set alone.
    pub element: Element,
}

/// The elements in a message about them.
pub(super) fn read(list: Attributes<'_>) -> Vec<RawElement> {
    list.list().filter_map(raw).collect()
}

fn raw(attributes: Attributes<'_>) -> Option<RawElement> {
    let value = |kind| attributes.value(kind).map(<[u8]>::to_vec);
    let flags = attributes.number(element::FLAGS).unwrap_or(0);
    let verdict = Verdict::read(attributes.nest(element::DATA)).map(Data::Verdict);
    let data = verdict.or_else(|| Some(Data::Values(vec![Value::Bytes(value(element::DATA)?)])));
    Some(RawElement {
        key: if flags & element_flag::CATCHALL == 0 { value(element::KEY)? } else { Vec::new() },
        key_end: value(element::KEY_END),
        is_end: flags & element_flag::INTERVAL_END != 0,
        element: Element {
            data,
            timeout: attributes.milliseconds(element::TIMEOUT),
            comment: attributes.get(element::USERDATA).and_then(userdata::read_comment),
            usage: Usage { counter: counter_of(attributes), expires: attributes.milliseconds(element::EXPIRATION) },
        },
    })
}

fn counter_of(attributes: Attributes<'_>) -> Option<Counter> {
    let expression = attributes.nest(element::EXPRESSION);
    let counted = expression.nest(abi::expression::DATA);
    (expression.text(abi::expression::NAME)? == "counter").then_some(())?;
    Some(Counter { packets: counted.long_number(counter::PACKETS)?, bytes: counted.long_number(counter::BYTES)? })
}

/// Elements of a set in which each element of the kernel's is one of ours; `None` for a set of ranges of one type.
pub(super) fn single_elements(set: &Set, raw: Vec<RawElement>) -> Option<BTreeMap<Key, Element>> {
    (!set.has_ends()).then(|| raw.into_iter().map(|one| typed(set, one)).collect())
}

/// The elements of a set from what the kernel lists.
pub(super) fn assemble(set: &Set, mut raw: Vec<RawElement>) -> BTreeMap<Key, Element> {
    if !set.has_ends() {
        return raw.into_iter().map(|one| typed(set, one)).collect();
    }
    // Where one range ends and another begins, both halves have the same key: the end comes first.
    raw.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut elements = BTreeMap::new();
    let mut raw = raw.into_iter().peekable();
    while let Some(begun) = raw.next() {
        // `nft` begins a set with the end of nothing.
        if !begun.is_end {
            let highest = || vec![u8::MAX; begun.key.len()];
            let last = raw.peek().map_or_else(highest, |next| step(next.key.clone(), |byte| byte.overflowing_sub(1)).0);
            elements.extend([typed(set, RawElement { key_end: Some(last), ..begun })]);
        }
    }
    elements
}

fn typed(set: &Set, RawElement { key: first, key_end, mut element, .. }: RawElement) -> (Key, Element) {
    let last = key_end.as_ref().unwrap_or(&first);
    let ends = wire::split(&set.key, &first).into_iter().zip(wire::split(&set.key, last));
    let key = if first.is_empty() { Vec::new() } else { ends.map(|(first, last)| Interval { first, last }).collect() };
    if let (Some(Data::Values(values)), Some(DataType::Values(types))) = (&mut element.data, &set.data)
        && let [Value::Bytes(bytes)] = values.as_slice()
    {
        *values = wire::split(types, bytes);
    }
    // A timeout equal to the set's own is left out.
    element.timeout = element.timeout.filter(|timeout| Some(*timeout) != set.timeout);
    (Key(key), element)
}
