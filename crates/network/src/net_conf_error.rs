//! Why a network configuration is not accepted. The backends judge their own options.
//!
//! Pure.

use dataplane::types::ValueError;

use crate::caseless::FieldError;

/// Why a network configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NetConfError {
    /// It is no JSON object.
    #[error(
        "error parsing subnet config: net-conf.json must hold one JSON object like {{\"Network\": \"10.244.0.0/16\"}}"
    )]
    Syntax {
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value has the wrong JSON type or is no address.
    #[error("error parsing subnet config: {field} is {value}, but must be {expected}")]
    Type {
        /// The field.
        field: String,
        /// Its value, as JSON.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A value is not allowed. `problem` has flannel's words where flannel has any.
    #[error("{problem}: {field} is {value}, but must be {allowed}")]
    Range {
        /// What is wrong.
        problem: String,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A number that the kernel does not take.
    #[error("error decoding backend config")]
    Word(#[from] ValueError),
    /// Neither family is enabled.
    #[error("none defined stack: EnableIPv4 and EnableIPv6 are both false, but one must be true")]
    NoStack,
    /// A backend that flannel has and netd does not.
    #[error("backend type {name} is not available in netd: Backend.Type must be {allowed}")]
    Unavailable {
        /// The backend's name.
        name: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A backend that nobody knows.
    #[error("unknown backend type: {name} (Backend.Type must be {allowed})")]
    UnknownBackend {
        /// The text of `Backend.Type`, empty where it is missing.
        name: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl From<FieldError> for NetConfError {
    fn from(FieldError { field, value, expected }: FieldError) -> Self {
        NetConfError::Type { field, value, expected }
    }
}
