//! Whether netd has ever got this node ready. Pure.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &facts.node.name;
    if facts.cluster.is_none() {
        findings.push(
            Finding::fault(name, "this node has no subnet in the store: nothing else can be looked at before")
                .remedy("start netd on this node, and look at its log"),
        );
    }
    if facts.subnet_file.text.is_none() {
        let path = facts.subnet_file.path.display();
        findings.push(
            Finding::fault(path, "the file is missing: no pod can start before netd has written it")
                .remedy("start netd on this node, and look at its log"),
        );
    }
    findings
}
