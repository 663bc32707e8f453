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

/// Takes `true` or `false`, where nothing is `false`.
pub(super) fn switch(object: &mut Object<'_>, name: &str) -> Result<bool, FieldError> {
    Ok(field(object, name, "true or false")?.unwrap_or(false))
}

/// Takes a number.
pub(super) fn number(
    object: &mut Object<'_>,
    name: &str,
    allowed: RangeInclusive<i64>,
) -> Result<Option<i64>, NetConfError> {
    let expected = format!("a whole number from {} to {}", allowed.start(), allowed.end());
    ranged(object, name, &expected, |number| allowed.contains(&number))
}

/// As [`number`], where 0 is flannel's other way to leave the field out.
pub(super) fn number_or_zero(
    object: &mut Object<'_>,
    name: &str,
    allowed: RangeInclusive<i64>,
) -> Result<Option<i64>, NetConfError> {
    let expected = format!("a whole number from {} to {}, or 0 for the default", allowed.start(), allowed.end());
    let number = ranged(object, name, &expected, |number| number == 0 || allowed.contains(&number))?;
    Ok(number.filter(|&number| number != 0))
}

fn ranged(
    object: &mut Object<'_>,
    name: &str,
    expected: &str,
    allows: impl Fn(i64) -> bool,
) -> Result<Option<i64>, NetConfError> {
    match field(object, name, expected)? {
        Some(number) if !allows(number) => Err(NetConfError::Range {
            problem: "error decoding backend config".to_owned(),
            field: format!("Backend.{name}"),
            value: number.to_string(),
            allowed: expected.to_owned(),
        }),
        fits => Ok(fits),
    }
}
