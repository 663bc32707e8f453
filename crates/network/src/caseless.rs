//! JSON objects whose keys match in any case, as in Go's `encoding/json`: people and other programs write `network` for `Network`.
//!
//! Pure. The caller takes the fields out one by one. So an error names its field, and the keys that are left are the unknown ones.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::text::printable;

/// A JSON object whose fields are still text: parts of the text that it was read from.
#[derive(Default)]
pub struct Object<'t> {
    fields: Vec<(Cow<'t, str>, &'t RawValue)>,
}

/// A key of a JSON object, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

/// True for two spellings of one key.
fn is_same_key(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || !one.is_ascii() && one.to_lowercase() == other.to_lowercase()
}

/// How many characters of a value a message shows.
const LIMIT: usize = 60;

/// A field with a wrong value.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value}, but must be {expected}")]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// The field's value, shortened.
    pub value: String,
    /// What the value must be.
    pub expected: String,
}

impl FieldError {
    /// The error of a field with this value.
    pub fn new(field: &str, value: &RawValue, expected: String) -> Self {
        Self { field: field.to_owned(), value: shortened(value.get()), expected }
    }
}

impl<'t> Object<'t> {
    /// Takes a field out; `null` counts as missing.
    pub fn take<T: Deserialize<'t>>(&mut self, field: &str, expected: &str) -> Result<Option<T>, FieldError> {
        self.take_if(field, expected, |_| true)
    }

    /// As [`Object::take`], for a value that also has to pass `is_right`.
    pub fn take_if<T: Deserialize<'t>>(
        &mut self,
        field: &str,
        expected: &str,
        is_right: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, FieldError> {
        let Some(place) = self.fields.iter().position(|(key, _)| is_same_key(key, field)) else { return Ok(None) };
        let (_, json) = self.fields.swap_remove(place);
        match serde_json::from_str(json.get()) {
            Ok(Some(value)) if is_right(&value) => Ok(Some(value)),
            Ok(None) => Ok(None),
            _ => Err(FieldError::new(field, json, expected.to_owned())),
        }
    }

    /// The keys of the fields that nobody took, as written.
    pub fn into_keys(self) -> impl Iterator<Item = String> + use<'t> {
        self.fields.into_iter().map(|(key, _)| key.into_owned())
    }
}

/// The value for a message: on one line, and not longer than [`LIMIT`] characters.
fn shortened(json: &str) -> String {
    let line = json.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LIMIT) {
        Some((end, _)) => printable(&line[..end]) + "...",
        None => printable(&line),
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, _)> = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    if let Some((first, _)) = fields.iter().find(|(known, _)| is_same_key(known, &key)) {
                        return Err(A::Error::custom(format_args!(
                            "\"{}\" is given although \"{}\" was given before: only one of them can count",
                            printable(&key),
                            printable(first)
                        )));
                    }
                    fields.push((key, value));
                }
                Ok(Object { fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
