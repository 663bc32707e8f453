//! `netd doctor`: why pods do not talk, and what to type.
//!
//! The list of checks, their order, and how findings are shown. Each check is a pure judgement over [`Facts`], which [`gather`] reads
//! from the kernel, the store, files and the peers. Nothing is changed.

mod bridge_netfilter;
mod checksum;
mod facts;
mod finding;
mod forward_policy;
mod forwarding;
mod gather;
mod lease;
mod leftovers;
mod mtu;
mod network;
mod path;
mod peers;
mod pods;
mod probe;
mod reverse_path;
mod subnets;
mod sysctl;

use std::fmt::Write as _;

use crate::config::Config;
use crate::store::Store;
use facts::Facts;
use finding::Check;
pub use finding::{Finding, Verdict};
pub use gather::FactsError;

/// Causes come before their effects.
const CHECKS: [Check; 13] = [
    lease::CHECK,
    network::CHECK,
    forwarding::CHECK,
    reverse_path::CHECK,
    forward_policy::CHECK,
    bridge_netfilter::CHECK,
    subnets::CHECK,
    pods::CHECK,
    leftovers::CHECK,
    mtu::CHECK,
    peers::CHECK,
    path::CHECK,
    checksum::CHECK,
];

/// Runs every check. Gives at least one finding for each, in the order of the checks.
///
/// # Errors
/// If the facts cannot be read.
pub async fn run(config: &Config, store: &impl Store) -> Result<Vec<Finding>, FactsError> {
    Ok(judge(&gather::read(config, store).await?))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Check { name, well, judge } in &CHECKS {
        let found = judge(facts);
        if found.is_empty() {
            findings.push(Finding { check: name, ..Finding::well(*well) });
        }
        findings.extend(found.into_iter().map(|finding| Finding { check: name, ..finding }));
    }
    findings
}

/// True if nothing is wrong.
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict == Verdict::Ok)
}

/// Findings for people: a line each, with the remedy below it.
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
