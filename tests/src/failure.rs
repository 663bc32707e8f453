//! What a check that did not hold says: a text with the story from outside to inside.

use std::fmt;

/// Why a test failed, or why the bed for it could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

/// The result of everything in the harness that can fail.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same failure with more to read below it, such as a log.
    #[must_use]
    pub fn with(self, title: &str, more: &str) -> Self {
        Self(format!("{}\n--- {title}\n{}", self.0, more.trim_end()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `what: ` before the failure.
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.ok_or_else(|| Failure(what.to_string()))
    }
}

/// Ends the function with a failure that reads like `format!`.
#[macro_export]
macro_rules! fail {
    ($($text:tt)+) => { return Err($crate::Failure::new(format!($($text)+))) };
}

/// Ends the function with a failure unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => { if !$holds { $crate::fail!($($text)+); } };
}
