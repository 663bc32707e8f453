//! `netd doctor`: why pods do not talk, and what to type.
//!
//! The list of checks, their order, and how findings are shown. Each check is a pure judgement over [`facts::Facts`], which
//! one file reads from the kernel, the store, files and the peers themselves. Nothing is changed.

mod bridge_netfilter;
mod checksum;
pub mod facts;
mod forward_policy;
mod forwarding;
mod lease;
mod leftovers;
mod mtu;
mod network;
mod path;
pub mod peers;
mod reverse_path;
mod subnets;

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::config::Config;
use crate::store::Store;
use facts::{Facts, FactsError};

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
    /// What it is about: a device, a peer, a chain; empty where all is well.
    pub subject: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// A sentence.
    pub what: String,
    /// What to type, or to do where there is nothing to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// One check: what it says where nothing is wrong, and its judgement, which gives what is wrong alone.
struct Check {
    name: &'static str,
    well: &'static str,
    judge: fn(&Facts) -> Vec<Trouble>,
}

/// Something that is wrong, as a check tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    subject: String,
    verdict: Verdict,
    what: String,
    remedy: Option<String>,
}

impl Trouble {
    fn fault(subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { subject: subject.to_string(), verdict: Verdict::Fault, what: what.into(), remedy: None }
    }

    fn warning(subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::fault(subject, what) }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// What comes first is the cause of what comes later more often than the other way round.
const CHECKS: [Check; 12] = [
    lease::CHECK,
    network::CHECK,
    forwarding::CHECK,
    reverse_path::CHECK,
    forward_policy::CHECK,
    bridge_netfilter::CHECK,
    subnets::CHECK,
    leftovers::CHECK,
    mtu::CHECK,
    peers::CHECK,
    path::CHECK,
    checksum::CHECK,
];

/// Looks at everything; a finding for each check at least, in the order of the checks.
///
/// # Errors
/// Where the facts cannot be read.
pub async fn run(config: &Config, store: &impl Store) -> Result<Vec<Finding>, FactsError> {
    Ok(judge(&facts::read(config, store).await?))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Check { name, well, judge } in &CHECKS {
        let troubles = judge(facts);
        if troubles.is_empty() {
            let (subject, what) = (String::new(), (*well).to_owned());
            findings.push(Finding { check: name, subject, verdict: Verdict::Ok, what, remedy: None });
        }
        findings.extend(troubles.into_iter().map(|trouble| {
            let Trouble { subject, verdict, what, remedy } = trouble;
            Finding { check: name, subject, verdict, what, remedy }
        }));
    }
    findings
}

/// True where there is nothing to do.
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict == Verdict::Ok)
}

/// Findings for people: a line each, and what to type below it.
pub fn table(findings: &[Finding]) -> String {
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let (checks, subjects) = (width(|f| f.check.len()), width(|f| f.subject.len()).min(32));
    let mut text = String::new();
    for Finding { check, subject, verdict, what, remedy } in findings {
        // Writing to a String cannot fail.
        let _ = match verdict {
            Verdict::Ok => writeln!(text, "{verdict:7}  {check:checks$}  {what}"),
            _ => writeln!(text, "{verdict:7}  {check:checks$}  {subject:subjects$}  {what}"),
        };
        for line in remedy.iter().flat_map(|remedy| remedy.lines()) {
            let _ = writeln!(text, "{:7}  {:checks$}  > {line}", "", "");
        }
    }
    text
}

#[cfg(test)]
mod tests;
