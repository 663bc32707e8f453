//! Whether netd has ever got this node ready. Pure.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let name = &facts.node.name;
    let no_subnet = "this node has no subnet in the store: nothing else can be looked at before";
    let no_file = "the file is missing: no pod can start before netd has written it";
    let path = facts.subnet_file.path.display().to_string();
    let needed =
        [(facts.cluster.is_some(), name.to_string(), no_subnet), (facts.subnet_file.text.is_some(), path, no_file)];
    let missing = needed.into_iter().filter(|(is_there, ..)| !is_there);
    let remedy = "start netd on this node, and look at its log";
    let missing = missing.map(|(_, subject, what)| Finding::fault(subject, what).remedy(remedy));
    let here = &facts.node.underlay.public;
    let public = facts.cluster.as_ref().map_or(*here, |cluster| cluster.own.public);
    let others = public.iter().filter(|(family, stored)| here.get(*family).is_some_and(|own| own != *stored));
    let others = others.map(|(family, stored)| {
        let what =
            format!("the store has the {family} address {stored} for this node, which this machine does not have");
        let remedy =
            "start netd here; where another machine has this node's name, give one of the two another --node-name";
        Finding::fault(name, what).remedy(remedy)
    });
    missing.chain(others).collect()
}
