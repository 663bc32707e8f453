//! JSON objects whose keys count in any case, as Go's do: people and other programs write `network` for `Network`.
//!
//! Pure. An object is taken apart field by field, so that a fault names its field, and what nobody took is known.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A JSON object, its fields still unread: parts of the text that it was read from.
#[derive(Default)]
pub struct Object<'t> {
    fields: Vec<Field<'t>>,
}

struct Field<'t> {
    key: Cow<'t, str>,
    /// Whether its key is ASCII, as all that we know are.
    ascii: bool,
    value: &'t RawValue,
}

impl Field<'_> {
    fn has_key(&self, other: &str) -> bool {
        self.key.eq_ignore_ascii_case(other) || !self.ascii && self.key.to_lowercase() == other.to_lowercase()
    }
}

#[derive(Deserialize)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

/// As many fields as an object has that we know; more are no harm.
const USUAL: usize = 10;

/// A field that does not hold what it must.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value}, but must be {expected}")]
pub struct FieldError {
    /// Its name.
    pub field: String,
    /// What it holds, shortened.
    pub value: String,
    /// What it must hold.
    pub expected: String,
}

impl FieldError {
    /// Of a field that holds `value`.
    pub fn new(field: &str, value: &RawValue, expected: String) -> Self {
        Self { field: field.to_owned(), value: shortened(value.get()), expected }
    }
}

impl<'t> Object<'t> {
    /// Takes a field out; `null` counts as missing.
    pub fn take<T: Deserialize<'t>>(&mut self, field: &str, expected: &str) -> Result<Option<T>, FieldError> {
        let Some(place) = self.fields.iter().position(|known| known.has_key(field)) else { return Ok(None) };
        let Field { value, .. } = self.fields.swap_remove(place);
        serde_json::from_str(value.get()).map_err(|_| FieldError::new(field, value, expected.to_owned()))
    }

    /// The keys of the fields that were not taken, as written.
    pub fn into_keys(self) -> impl Iterator<Item = String> + use<'t> {
        self.fields.into_iter().map(|field| field.key.into_owned())
    }
}

/// A value as a message can show it: one line, not endless.
fn shortened(json: &str) -> String {
    const LIMIT: usize = 60;
    let line = json.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
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
                let mut fields: Vec<Field<'de>> = Vec::with_capacity(USUAL);
                while let Some((Key(key), value)) = map.next_entry()? {
                    if let Some(Field { key: first, .. }) = fields.iter().find(|field| field.has_key(&key)) {
                        return Err(A::Error::custom(format_args!(
                            "{key:?} is given although {first:?} was given before: only one of them can count"
                        )));
                    }
                    fields.push(Field { ascii: key.is_ascii(), key, value });
                }
                Ok(Object { fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
