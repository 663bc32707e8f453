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
    /// It is larger than [`crate::record::LARGEST`].
    #[error("it has {0} bytes, and no record has more than 64 kB")]
    Large(usize),
    /// A list is longer than [`crate::record::LONGEST`].
    #[error("{0} has {1} entries, and none has more than 16")]
    Long(&'static str, usize),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}
