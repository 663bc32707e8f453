//! Whether netd has ever got this node ready. Pure.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let no_subnet = "this node has no subnet in the store: nothing else can be looked at before";
    let no_file = "the file is missing: no pod can start before netd has written it";
    let path = facts.subnet_file.path.display().to_string();
    let needed = [
        (facts.cluster.is_some(), facts.node.name.to_string(), no_subnet),
        (facts.subnet_file.text.is_some(), path, no_file),
    ];
    let missing = needed.into_iter().filter(|(is_there, ..)| !is_there);
    let remedy = "start netd on this node, and look at its log";
    missing.map(|(_, subject, what)| Finding::fault(subject, what).remedy(remedy)).collect()
}
