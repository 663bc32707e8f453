//! Reading a JSON object by key: keys in any case, `null` as absent, every error with the field's path. Pure.

use std::fmt::Display;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{invalid, undecodable};
use crate::cni_error::{CniError, Code};

/// An object and where it is. One that is absent has no fields.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The outermost object.
    pub fn root(map: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), map: Some(map) }
    }

    /// The object in `value`, which is at `path`.
    pub fn of(path: impl Into<String>, value: &'a Value) -> Result<Self, CniError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { path, map: Some(map) }),
            _ => Err(wrong_type(path, "an object", value)),
        }
    }

    /// Where `key` is, from the outermost object, like `ipam.ranges`.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`; one that is written exactly so comes before one in another case.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let map = self.map?;
        let in_any_case = || map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        map.get(key).or_else(in_any_case).filter(|value| !value.is_null())
    }

    /// True where `key` is there, even as `null`.
    pub fn has(&self, key: &str) -> bool {
        self.map.is_some_and(|map| map.keys().any(|name| name.eq_ignore_ascii_case(key)))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, CniError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> Result<Option<i64>, CniError> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    /// A list with the path of each item; empty where there is none.
    pub fn list(&self, key: &str) -> Result<Vec<(String, &'a Value)>, CniError> {
        let items = self.typed(key, "a list", Value::as_array)?;
        let path = self.path_of(key);
        Ok(items.into_iter().flatten().enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect())
    }

    /// A list of texts; empty where there is none.
    pub fn texts(&self, key: &str) -> Result<Vec<&'a str>, CniError> {
        let items = self.list(key)?.into_iter();
        items.map(|(path, value)| value.as_str().ok_or_else(|| wrong_type(path, "a string", value))).collect()
    }

    /// An object inside.
    pub fn object(&self, key: &str) -> Result<Fields<'a>, CniError> {
        let path = self.path_of(key);
        match self.value(key) {
            Some(value) => Fields::of(path, value),
            None => Ok(Fields { path, map: None }),
        }
    }

    /// A list of objects; empty where there is none.
    pub fn objects(&self, key: &str) -> Result<Vec<Fields<'a>>, CniError> {
        self.list(key)?.into_iter().map(|(path, value)| Fields::of(path, value)).collect()
    }

    /// A parsed text; an empty one counts as absent.
    pub fn parsed<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, CniError> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        parse(text).map(Some).map_err(|reason| self.wrong_value(key, format!("{text:?}"), reason))
    }

    /// An IP address.
    pub fn address(&self, key: &str) -> Result<Option<IpAddr>, CniError> {
        self.parsed(key, |text| text.parse().map_err(|_| "it must be an IP address"))
    }

    /// The error for a wrong value of `key`.
    pub fn wrong_value(&self, key: &str, value: impl Display, reason: impl Display) -> CniError {
        invalid(format!("{} is {value}: {reason}", self.path_of(key)))
    }

    /// Fails where one of `keys` is set. `null`, `false`, 0 and an empty value count as not set.
    pub fn refuse(&self, keys: &[&str]) -> Result<(), CniError> {
        let asks = |value: &&Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
        match keys.iter().find_map(|key| Some((key, self.value(key).filter(asks)?))) {
            Some((key, value)) => Err(self.unsupported(key, shortened(value))),
            None => Ok(()),
        }
    }

    /// The error for a value of `key` that the plugin does not support.
    pub fn unsupported(&self, key: &str, value: impl Display) -> CniError {
        let message = format!("{} is {value}: the plugin does not support it; remove the field", self.path_of(key));
        CniError::new(Code::UnsupportedField, message)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CniError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(self.path_of(key), expected, value))
    }
}

/// The error for a value at `field` that has the wrong JSON type.
pub fn wrong_type(field: impl Display, expected: &str, value: &Value) -> CniError {
    undecodable(format!("{field} must be {expected}, but it is {}", shortened(value)))
}

/// A value for a message, cut to 100 characters.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
