//! Whether the host's policy rules let packets to pods come to netd's routes. Pure.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let finding = |diversion: &crate::diversion::Diversion| {
        Finding::fault(diversion.subject(), diversion.detail()).remedy(diversion.remedy.clone())
    };
    facts.kernel.diversions.iter().map(finding).collect()
}
