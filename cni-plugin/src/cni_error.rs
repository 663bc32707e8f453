//! The error object of the CNI specification: what a runtime reads on stdout when the plugin exits with 1. Pure.

use std::error::Error;
use std::iter::successors;

use serde_json::{Value, json};

use crate::version::Version;

/// The error codes of the specification that the plugin uses, and its own from 100 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is not supported, or does not have this verb.
    IncompatibleVersion = 1,
    /// A field has a value that the plugin does not support; the message holds its name and value.
    UnsupportedField = 2,
    /// The container or its namespace does not exist; the runtime need not clean up.
    UnknownContainer = 3,
    /// An environment variable is missing or wrong; the message names it.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// Stdin cannot be decoded.
    Decode = 6,
    /// The network configuration is wrong.
    InvalidConfiguration = 7,
    /// `CNI_NETNS` is the plugin's own namespace. A convention of the specification's library.
    InvalidNetns = 8,
    /// The runtime may try again later.
    TryAgainLater = 11,
    /// STATUS: the plugin cannot serve ADD.
    NotAvailable = 50,
    /// The kernel refused a request.
    Kernel = 100,
    /// The attachment, or another object with its name, exists already.
    AlreadyThere = 101,
    /// CHECK: the attachment is not as ADD made it.
    Differs = 102,
}

/// The error object: why a verb did not succeed. Every error of the plugin is one from where it arises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    /// The error code.
    pub code: Code,
    /// One sentence with its causes.
    pub message: String,
    /// More for a person to read, or empty.
    pub details: String,
}

impl CniError {
    /// An error without a cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// The error and its causes, each after a colon.
    pub fn of(code: Code, error: &(dyn Error + 'static)) -> Self {
        let chain: Vec<_> = successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
        Self::new(code, chain.join(": "))
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same, worded so that a runtime repeats the verb.
    ///
    /// containerd takes a failed DEL whose text says that something was "not found" for a finished one, and never
    /// repeats it.
    #[must_use]
    pub fn worth_repeating(mut self) -> Self {
        for phrase in ["not found", "no such file or directory", "No such file or directory"] {
            self.message = self.message.replace(phrase, "missing");
        }
        self
    }

    /// The object for stdout.
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = json!({"cniVersion": version.as_str(), "code": self.code as u16, "msg": self.message});
        if !self.details.is_empty() {
            object["details"] = self.details.as_str().into();
        }
        object
    }
}

#[cfg(test)]
mod tests;
