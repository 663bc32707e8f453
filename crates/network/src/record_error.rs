//! Why a record, or a part of one, cannot be read. The backends read their own parts.
//!
//! Pure.

use crate::caseless::FieldError;

/// Why a text is no lease.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON object, or not a whole one.
    #[error("it holds no complete JSON object")]
    Syntax(#[from] serde_json::Error),
    /// A field does not hold what it must.
    #[error("a field is wrong")]
    Field(#[from] FieldError),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}
