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
    let public = facts.cluster.as_ref().map_or(facts.node.underlay.public, |cluster| cluster.own.public);
    for (family, stored) in public
        .iter()
        .filter(|(family, stored)| facts.node.underlay.public.get(*family).is_some_and(|own| own != *stored))
    {
        let what =
            format!("the store has the {family} address {stored} for this node, which this machine does not have");
        let remedy =
            "start netd here; where another machine has this node's name, give one of the two another --node-name";
        findings.push(Finding::fault(name, what).remedy(remedy));
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
