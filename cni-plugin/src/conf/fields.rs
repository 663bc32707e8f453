//! Reading a JSON object by key: keys in any case, `null` as absent, every error with the field's path. Pure.

use serde_json::{Map, Value};

use super::ConfError;

/// An object and where it is.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The outermost object.
    pub fn root(map: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), map }
    }

    /// The object in `value`, which is at `path`.
    pub fn of(path: impl Into<String>, value: &'a Value) -> Result<Self, ConfError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(wrong_type(path, "an object", value)),
        }
    }

    /// Where `key` is, from the outermost object, like `ipam.ranges`.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`; one that is written exactly so comes before one in another case.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let in_any_case = || self.map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        self.map.get(key).or_else(in_any_case).filter(|value| !value.is_null())
    }

    /// True where `key` is there, even as `null`.
    pub fn has(&self, key: &str) -> bool {
        self.map.keys().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ConfError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> Result<Option<i64>, ConfError> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    /// A list with the path of each item; empty where there is none.
    pub fn list(&self, key: &str) -> Result<Vec<(String, &'a Value)>, ConfError> {
        let items = self.typed(key, "a list", Value::as_array)?;
        let path = self.path_of(key);
        Ok(items.into_iter().flatten().enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect())
    }

    /// A list of texts; empty where there is none.
    pub fn texts(&self, key: &str) -> Result<Vec<&'a str>, ConfError> {
        let text =
            |(path, value): (String, &'a Value)| value.as_str().ok_or_else(|| wrong_type(path, "a string", value));
        self.list(key)?.into_iter().map(text).collect()
    }

    /// An object inside.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>, ConfError> {
        self.value(key).map(|value| Fields::of(self.path_of(key), value)).transpose()
    }

    /// A list of objects; empty where there is none.
    pub fn objects(&self, key: &str) -> Result<Vec<Fields<'a>>, ConfError> {
        self.list(key)?.into_iter().map(|(path, value)| Fields::of(path, value)).collect()
    }

    /// A parsed text; an empty one counts as absent.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfError> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        parse(text).map(Some).map_err(|reason| self.wrong_value(key, &format!("{text:?}"), reason))
    }

    /// The error for a wrong value of `key`.
    pub fn wrong_value(&self, key: &str, value: &str, reason: impl std::fmt::Display) -> ConfError {
        ConfError::Value { field: self.path_of(key), value: value.to_owned(), reason: reason.to_string() }
    }

    /// Fails where `key` is set. `null`, `false`, 0 and an empty value count as not set.
    pub fn refuse(&self, key: &str) -> Result<(), ConfError> {
        let asks = |value: &&Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
        match self.value(key).filter(asks) {
            Some(value) => Err(ConfError::Unsupported { field: self.path_of(key), value: shortened(value) }),
            None => Ok(()),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(self.path_of(key), expected, value))
    }
}

/// The error for a value at `field` that has the wrong JSON type.
pub fn wrong_type(field: String, expected: &'static str, value: &Value) -> ConfError {
    ConfError::Type { field, expected, found: shortened(value) }
}

/// A value for a message, cut to 100 characters.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
