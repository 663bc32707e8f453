//! Why a network configuration is not accepted. The backends judge their own options.
//!
//! Pure.

use crate::caseless::FieldError;

/// Why a network configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NetConfError {
    /// It is no JSON object.
    #[error(
        "error parsing subnet config: net-conf.json must hold one JSON object like {{\"Network\": \"10.244.0.0/16\"}}"
    )]
    Syntax(#[source] serde_json::Error),
    /// A value is not allowed. `problem` has flannel's words where flannel has any.
    #[error("{problem}: {wrong}")]
    Value {
        /// What is wrong.
        problem: String,
        /// The field, its value and what it may be.
        wrong: FieldError,
    },
    /// Neither family is enabled.
    #[error("none defined stack: EnableIPv4 and EnableIPv6 are both false, but one must be true")]
    NoStack,
    /// A backend that flannel has and netd does not, or one that nobody knows.
    #[error("{0}")]
    Backend(String),
}

impl NetConfError {
    /// A value that is not allowed.
    pub(crate) fn value(
        problem: impl Into<String>,
        field: &str,
        value: &(impl ToString + ?Sized),
        allowed: &str,
    ) -> Self {
        let (field, value, expected) = (field.to_owned(), value.to_string(), allowed.to_owned());
        NetConfError::Value { problem: problem.into(), wrong: FieldError { field, value, expected } }
    }
}

impl From<FieldError> for NetConfError {
    /// A value that has the wrong JSON type or is no address.
    fn from(wrong: FieldError) -> Self {
        NetConfError::Value { problem: "error parsing subnet config".to_owned(), wrong }
    }
}
