//! The kinds of problems that the proxy reports about objects.
//!
//! Pure.

use std::fmt;

use ::reconcile::problem;
use serde::{Deserialize, Serialize};

/// A problem of an object.
pub type Problem = problem::Problem<Kind>;
/// All problems.
pub type Problems = problem::Problems<Kind>;

/// What kind of problem it is. In documents and Events the variant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Another Service has this one's address and port.
    AddressConflict,
    /// Another Service has this one's node port.
    NodePortConflict,
    /// A field of an object cannot be used. The rest of the object is served.
    InvalidField,
    /// A file cannot be used. Its last good objects are served.
    InvalidFile,
    /// The port of a Service's health check cannot be opened.
    HealthCheckUnavailable,
    /// A node port cannot be opened on loopback.
    LoopbackUnavailable,
    /// The objects cannot be read.
    SourceUnavailable,
    /// The kernel does not have a table as it should be.
    NotProgrammed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
