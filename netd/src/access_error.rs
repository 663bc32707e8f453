//! The error of an operation on one object: a file, a key of etcd, an object of the API server.

use std::error::Error;
use std::fmt::Display;

/// The cause of an error.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// An operation has failed. The message names the object and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {advice}")]
pub struct AccessError {
    operation: &'static str,
    object: String,
    advice: &'static str,
    source: Cause,
}

impl AccessError {
    /// `operation` is a verb: `write`. `advice` is what a person can do.
    pub(crate) fn new(
        operation: &'static str,
        object: impl Display,
        advice: &'static str,
        source: impl Into<Cause>,
    ) -> Self {
        Self { operation, object: object.to_string(), advice, source: source.into() }
    }
}
