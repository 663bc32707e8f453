//! Fields of the `Backend` object of `net-conf.json`, named in errors as the operator finds them there.
//!
//! Pure.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use crate::caseless::{FieldError, Object};
use crate::net_conf_error::NetConfError;

/// Takes a field out of `Backend`.
pub(super) fn field<T: DeserializeOwned>(
    object: &mut Object<'_>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, FieldError> {
    object.take(name, expected).map_err(|fault| FieldError { field: format!("Backend.{name}"), ..fault })
}

/// Takes `true` or `false`; a missing field is `false`.
pub(super) fn switch(object: &mut Object<'_>, name: &str) -> Result<bool, FieldError> {
    Ok(field(object, name, "true or false")?.unwrap_or(false))
}

/// Takes a number. With `or_zero`, 0 is flannel's other way to leave the field out.
pub(super) fn number<T: TryFrom<i64>>(
    object: &mut Object<'_>,
    name: &str,
    allowed: RangeInclusive<i64>,
    or_zero: bool,
) -> Result<Option<T>, NetConfError> {
    let zero = if or_zero { ", or 0 for the default" } else { "" };
    let expected = format!("a whole number from {} to {}{zero}", allowed.start(), allowed.end());
    match field(object, name, &expected)? {
        None => Ok(None),
        Some(0) if or_zero => Ok(None),
        Some(number) if allowed.contains(&number) => Ok(T::try_from(number).ok()),
        Some(number) => {
            Err(NetConfError::value("error decoding backend config", &format!("Backend.{name}"), &number, &expected))
        }
    }
}
