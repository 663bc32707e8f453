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
mod policy_rules;
mod probe;
mod reverse_path;
mod services;
mod subnets;
mod sysctl;

use std::fmt::Write as _;

use crate::config::Config;
use crate::store::Store;
use facts::Facts;
pub use finding::{Finding, Verdict};
pub use gather::FactsError;

/// Finds what is wrong; leaves the findings' `check` empty.
type Judge = fn(&Facts) -> Vec<Finding>;

/// The checks: name, what to report if nothing is wrong, and judgement. Causes come before their effects.
const CHECKS: [(&str, &str, Judge); 15] = [
    ("lease", "this node has its subnets, and the plugin's file is there", lease::judge),
    ("network", "the kernel has every device, entry and route of the network", network::judge),
    ("forwarding", "the kernel forwards packets of pods", forwarding::judge),
    ("reverse path", "no reverse-path filter meets packets that come another way than answers go", reverse_path::judge),
    ("forward policy", "no chain drops forwarded packets of pods by policy", forward_policy::judge),
    (
        "br_netfilter",
        "packets between pods of one node meet iptables where Services need it, and pass",
        bridge_netfilter::judge,
    ),
    ("subnets", "the pod network overlaps nothing else, and no two nodes' subnets do", subnets::judge),
    ("pods", "no two pods of this node have one address", pods::judge),
    ("leftovers", "no other pod network has left its configuration, rules or addresses here", leftovers::judge),
    ("policy rules", "no policy rule keeps packets to pods from netd's routes", policy_rules::judge),
    ("mtu", "the tunnel, subnet.env and the bridge have the MTU that the underlay leaves", mtu::judge),
    ("peers", "every peer answers the way that pods' packets take", peers::judge),
    ("path mtu", "the largest packets of pods arrive at every peer that answers", path::judge),
    ("services", "the kernel has every Service, each with an endpoint that a route leads to", services::judge),
    ("checksum", "datagrams arrive through the tunnel with their checksums right", checksum::judge),
];

/// Runs every check. Gives at least one finding for each, in the order of the checks.
///
/// # Errors
/// If the facts cannot be read.
pub async fn run(config: &Config, store: &Store) -> Result<Vec<Finding>, FactsError> {
    Ok(judge(&gather::read(config, store).await?))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (check, well, judge) in CHECKS {
        let mut found = judge(facts);
        if found.is_empty() {
            found.push(Finding::well(well));
        }
        findings.extend(found.into_iter().map(|finding| Finding { check, ..finding }));
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
