//! Whether netd has ever got this node ready. Pure.

use super::facts::Facts;
use super::{Check, Trouble};

pub(super) const CHECK: Check =
    Check { name: "lease", well: "this node has its subnets, and the plugin is told of them", judge };

fn judge(facts: &Facts) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let name = &facts.node.name;
    if facts.cluster.is_none() {
        troubles.push(
            Trouble::fault(name, "this node has no subnet in the store: nothing else can be looked at before")
                .remedy("start netd on this node, and look at its log"),
        );
    }
    if facts.subnet_file.text.is_none() {
        let path = facts.subnet_file.path.display();
        troubles.push(
            Trouble::fault(path, "the file is missing: no pod can start before netd has written it")
                .remedy("start netd on this node, and look at its log"),
        );
    }
    troubles
}
