//! What is wrong with an object of the API.
//!
//! Pure.

use std::fmt;

use crate::model::ObjectName;
use crate::problem::{Kind, Problem};

/// A field that cannot be used. The rest of the object counts as if the field, or the list's element, was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field, such as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with the field, and what would be right. Field and detail make a sentence.
    pub detail: String,
}

impl Fault {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }

    /// The problem to report. `place` is where the field is, such as `web.yaml:12`.
    pub fn problem(&self, object: &ObjectName, place: Option<&str>) -> Problem {
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        Problem::new(Kind::InvalidField, format!("{} of {object}{place}", self.field), self.detail.clone())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.detail)
    }
}

/// The faults of an object while it is converted.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Fault::new(field, detail));
    }

    /// The value, or a fault.
    pub(super) fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|detail| self.add(field, detail)).ok()
    }
}
