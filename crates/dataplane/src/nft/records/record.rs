//! One element that is held by its bytes. Pure.

use std::fmt;

use super::super::abi::{self, element};
use super::super::attributes::Attributes;
use super::super::expression::Verdict;
use super::super::table::{Data, DataType, Element};
use super::super::value::Key;
use super::super::value::Value;
use super::super::writer::Writer;
use super::super::{userdata, wire};
use super::texts::{TEXT_BYTES, Texts};
use super::{Records, VERDICT_BYTES};

/// One element of [`Records`].
#[derive(Clone, Copy)]
pub struct ElementRecord<'r> {
    pub(super) of: &'r Records,
    pub(super) bytes: &'r [u8],
}

/// What an element of a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementRecordData<'r> {
    /// Nothing: it is one of a set.
    None,
    /// The kernel's bytes of the values.
    Values(&'r [u8]),
    /// A verdict.
    Verdict(&'r Verdict),
}

impl<'r> ElementRecord<'r> {
    /// The kernel's bytes of the key.
    pub fn key(&self) -> &'r [u8] {
        &self.bytes[..self.of.key_bytes]
    }

    /// The values of the key.
    pub fn key_values(&self) -> Vec<Value> {
        wire::split(&self.of.key, self.key())
    }

    /// What the element holds.
    pub fn data(&self) -> ElementRecordData<'r> {
        let bytes = &self.bytes[self.of.key_bytes..self.bytes.len() - TEXT_BYTES];
        match &self.of.data {
            None => ElementRecordData::None,
            Some(DataType::Values(_)) => ElementRecordData::Values(bytes),
            Some(DataType::Verdict) => {
                let place = bytes.first_chunk::<VERDICT_BYTES>().map_or(0, |place| u32::from_ne_bytes(*place));
                self.of.verdicts.get(place as usize).map_or(ElementRecordData::None, ElementRecordData::Verdict)
            }
        }
    }

    /// The comment.
    pub fn comment(&self) -> Option<&'r str> {
        self.of.comments.get(self.text())
    }

    /// The element as typed values.
    pub fn to_element(&self) -> (Key, Element) {
        let data = match (self.data(), &self.of.data) {
            (ElementRecordData::Verdict(verdict), _) => Some(Data::Verdict(verdict.clone())),
            (ElementRecordData::Values(bytes), Some(DataType::Values(types))) => {
                Some(Data::Values(wire::split(types, bytes)))
            }
            _ => None,
        };
        let comment = self.comment().map(str::to_owned);
        (self.key_values().into_iter().collect(), Element { data, comment, ..Element::default() })
    }

    /// The place of the comment.
    pub(super) fn text(&self) -> [u8; TEXT_BYTES] {
        self.bytes.last_chunk().copied().unwrap_or(Texts::NONE)
    }

    /// Writes the element as a member of a list.
    pub(in super::super) fn write(&self, writer: &mut Writer) {
        writer.nest(abi::LIST_ELEM, |writer| {
            writer.value(element::KEY, self.key());
            match self.data() {
                ElementRecordData::None => {}
                ElementRecordData::Values(bytes) => writer.value(element::DATA, bytes),
                ElementRecordData::Verdict(verdict) => writer.nest(element::DATA, |writer| verdict.write(writer)),
            }
            // It was checked when it came.
            if let Ok(Some(comment)) = userdata::comment(self.comment()) {
                writer.put(element::USERDATA, &comment);
            }
        });
    }
}

impl PartialEq for ElementRecord<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key() && self.data() == other.data() && self.comment() == other.comment()
    }
}

impl fmt::Debug for ElementRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_element().fmt(f)
    }
}

impl Records {
    /// Takes the elements of a list of the kernel's, without those that are not of the set's types.
    pub(in super::super) fn read(&mut self, list: Attributes<'_>) {
        for attributes in list.list() {
            let _ = self.read_one(attributes);
        }
    }

    fn read_one(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let key = attributes.value(element::KEY).filter(|key| key.len() == self.key_bytes)?;
        let comment = attributes.get(element::USERDATA).and_then(userdata::read_comment);
        let verdict;
        let data = match &self.data {
            None => &[],
            Some(DataType::Values(_)) => {
                attributes.value(element::DATA).filter(|data| data.len() == self.data_bytes)?
            }
            Some(DataType::Verdict) => {
                verdict = self.keep_verdict(&Verdict::read(attributes.nest(element::DATA))?);
                &verdict[..]
            }
        };
        self.put(key, data, comment.as_deref());
        Some(())
    }
}
