//! What a check finds.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// It may keep some packets from arriving.
    Warning,
    /// It keeps packets from arriving.
    Fault,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Fault => "FAULT",
        })
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// The object: a device, a peer, a chain; empty if nothing is wrong.
    pub subject: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// A sentence.
    pub what: String,
    /// What to type, or to do if there is nothing to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn well(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, ..Self::fault("", what) }
    }

    pub(super) fn fault(subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { check: "", subject: subject.to_string(), verdict: Verdict::Fault, what: what.into(), remedy: None }
    }

    pub(super) fn warning(subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::fault(subject, what) }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}
