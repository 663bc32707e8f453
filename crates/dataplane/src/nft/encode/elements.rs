//! Elements of sets as attributes. Pure.
//!
//! Three shapes: a plain key; a key with the end of its ranges (concatenations with ranges); and, for ranges of one
//! type, two elements each, where the second is marked as the end and is the first value outside.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::abi::{self, data, element, verdict};
use super::super::expression::{Value, Verdict};
use super::super::table::{Data, Element, Interval, Key, SetFlags};
use super::super::wire;
use super::super::writer::Writer;

/// One element of the kernel's, of which a range of ours may need two.
#[derive(Debug)]
pub(super) struct Part<'e> {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    flags: u32,
    element: Option<&'e Element>,
}

/// The kernel's elements for ours.
pub(super) fn parts(set: SetFlags, elements: &BTreeMap<Key, Element>) -> Result<Vec<Part<'_>>, &'static str> {
    let mut parts = Vec::with_capacity(elements.len());
    for (Key(key), held) in elements {
        let first = wire::join(key.iter().map(|interval| &interval.first));
        let last = wire::join(key.iter().map(|interval| &interval.last));
        let flags = if key.is_empty() { element::CATCHALL } else { 0 };
        let whole = Part { key: first, key_end: None, flags, element: Some(held) };
        if !key.iter().all(is_sound) {
            return Err("an interval must begin and end with values of one type, the lower first");
        }
        match (set.has(SetFlags::INTERVAL), key.as_slice()) {
            (_, []) => parts.push(whole),
            (false, _) if whole.key != last => return Err("only a set with the interval flag can hold ranges"),
            (false, _) => parts.push(whole),
            (true, [_]) => {
                parts.push(whole);
                // A range that reaches the highest value has no end: there is nothing outside.
                parts.extend(after(last).map(|key| Part {
                    key,
                    key_end: None,
                    flags: element::INTERVAL_END,
                    element: None,
                }));
            }
            (true, _) => parts.push(Part { key_end: Some(last), ..whole }),
        }
    }
    Ok(parts)
}

fn is_sound(Interval { first, last }: &Interval) -> bool {
    first.kind() == last.kind() && (first == last || (first.kind().is_ordered() && first <= last))
}

/// The next value; `None` after the highest.
fn after(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Some(bytes);
        }
    }
    None
}

/// What one message's list may weigh. Its length has 16 bits.
const CHUNK_BYTES: usize = 60_000;

/// The parts in runs that fit into a message each.
pub(super) fn chunks<'p, 'e>(mut parts: &'p [Part<'e>]) -> impl Iterator<Item = &'p [Part<'e>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = parts.iter().take_while(|part| {
            bytes += part.bound();
            bytes <= CHUNK_BYTES
        });
        let (chunk, rest) = parts.split_at(fits.count().max(1).min(parts.len()));
        parts = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

impl Part<'_> {
    /// No fewer bytes than it takes as attributes: what is fixed, and what is not.
    fn bound(&self) -> usize {
        let data = match self.element.and_then(|element| element.data.as_ref()) {
            None => 0,
            Some(Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain))) => chain.len() + 32,
            Some(Data::Verdict(_)) => 32,
            Some(Data::Values(values)) => 16 + 20 * values.len(),
        };
        48 + self.key.len() + self.key_end.as_ref().map_or(0, |key| 16 + key.len()) + data
    }
}

/// Writes one element.
pub(super) fn write(writer: &mut Writer, part: &Part<'_>) {
    writer.nest(abi::LIST_ELEM, |writer| {
        if !part.key.is_empty() {
            writer.nest(element::KEY, |writer| writer.put(data::VALUE, &part.key));
        }
        if let Some(key_end) = &part.key_end {
            writer.nest(element::KEY_END, |writer| writer.put(data::VALUE, key_end));
        }
        if part.flags != 0 {
            writer.number(element::FLAGS, part.flags);
        }
        let Some(element) = part.element else { return };
        match &element.data {
            None => {}
            Some(Data::Verdict(verdict)) => writer.nest(element::DATA, |writer| write_verdict(writer, verdict)),
            Some(Data::Values(values)) => {
                let bytes = wire::join(values.iter().map(|value: &Value| value));
                writer.nest(element::DATA, |writer| writer.put(data::VALUE, &bytes));
            }
        }
        if let Some(timeout) = element.timeout {
            writer.put(element::TIMEOUT, &milliseconds(timeout));
        }
    });
}

/// Writes a verdict as data.
pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (verdict::ACCEPT, None),
        Verdict::Drop => (verdict::DROP, None),
        Verdict::Continue => (verdict::CONTINUE, None),
        Verdict::Return => (verdict::RETURN, None),
        Verdict::Jump(chain) => (verdict::JUMP, Some(chain)),
        Verdict::Goto(chain) => (verdict::GOTO, Some(chain)),
    };
    writer.nest(data::VERDICT, |writer| {
        writer.put(data::VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            writer.text(data::VERDICT_CHAIN, chain);
        }
    });
}

/// A time as the kernel wants it.
pub(super) fn milliseconds(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes()
}
