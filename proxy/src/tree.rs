//! A document of YAML or JSON with the line of each value, and objects that are read out of it.
//!
//! Pure. An object that cannot be read does not keep the others of its file from being read, and the error names line and field.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_saphyr::Spanned;

/// A value and its line.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) line: u64,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    /// By key.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Tree> {
        let Value::Map(entries) = &self.value else { return None };
        entries.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok().map(|place| &entries[place].1)
    }

    /// The text of a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list.
    pub(crate) fn list(&self) -> &[Tree] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }

    /// True for a document without content.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The line of a field such as `spec.ports[0].port`; where there is no such field, that of the last one on the way.
    pub(crate) fn line_of(&self, field: &str) -> u64 {
        let mut tree = self;
        for part in field.split('.') {
            let (key, place) = part.split_once('[').map_or((part, None), |(key, place)| (key, Some(place)));
            let Some(next) = tree.get(key) else { break };
            let place = place.and_then(|place| place.strip_suffix(']')?.parse::<usize>().ok());
            tree = place.and_then(|place| next.list().get(place)).unwrap_or(next);
        }
        tree.line
    }

    /// The value without lines.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Unsigned(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(Tree::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }

    /// Reads an object.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, TreeError> {
        T::deserialize(self).map_err(|error| error.at(self, ""))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Unsigned(value), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(String, Tree)> = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        // A key may be there twice only where the parser lets it: the last one counts.
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(next, _), (kept, _)| next == kept);
        Ok(Value::Map(entries))
    }
}

/// Why an object cannot be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeError {
    /// The line; 0 while it is not known.
    pub(crate) line: u64,
    /// The field.
    pub(crate) field: String,
    message: String,
}

impl TreeError {
    /// The error on the way out of a value, with the value's key or place in front of the field.
    fn at(mut self, tree: &Tree, step: &str) -> Self {
        if self.line == 0 {
            self.line = tree.line;
        }
        let dot = if self.field.is_empty() || self.field.starts_with('[') || step.is_empty() { "" } else { "." };
        self.field = format!("{step}{dot}{}", self.field);
        self
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), ..Self::default() }
    }
}

impl<'de> Deserializer<'de> for &'de Tree {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(Elements(list.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}

struct Elements<'de>(std::iter::Enumerate<std::slice::Iter<'de, Tree>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = TreeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TreeError> {
        let Some((place, tree)) = self.0.next() else { return Ok(None) };
        seed.deserialize(tree).map(Some).map_err(|error| error.at(tree, &format!("[{place}]")))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Tree)>,
    value: Option<&'de (String, Tree)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TreeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TreeError> {
        self.value = self.entries.next();
        self.value.map(|(key, _)| seed.deserialize(key.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TreeError> {
        let Some((key, tree)) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(tree).map_err(|error| error.at(tree, key))
    }
}

#[cfg(test)]
mod tests;
