//! JSON objects whose keys count in any case, as Go's do: people and other programs write `network` for `Network`.
//!
//! Pure. An object is taken apart field by field, so that a fault names its field, and what nobody took is known.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A JSON object, its fields still unread.
#[derive(Default)]
pub(crate) struct Object {
    fields: BTreeMap<String, Field>,
}

struct Field {
    key: String,
    value: Box<RawValue>,
}

/// A field that does not hold what it must.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value}, but must be {expected}")]
pub struct FieldError {
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) expected: String,
}

impl Object {
    /// Takes a field out; `null` counts as missing.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, field: &str, expected: &str) -> Result<Option<T>, FieldError> {
        let Some(Field { value, .. }) = self.fields.remove(&field.to_lowercase()) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| FieldError {
            field: field.to_owned(),
            value: shortened(value.get()),
            expected: expected.to_owned(),
        })
    }

    /// The keys of the fields that were not taken, as written.
    pub(crate) fn into_keys(self) -> impl Iterator<Item = String> {
        self.fields.into_values().map(|field| field.key)
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

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    let folded = key.to_lowercase();
                    if let Some(Field { key: first, .. }) = fields.get(&folded) {
                        return Err(A::Error::custom(format_args!(
                            "{key:?} is given although {first:?} was given before: only one of them can count"
                        )));
                    }
                    fields.insert(folded, Field { key, value });
                }
                Ok(Object { fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
