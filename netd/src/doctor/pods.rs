//! Whether each pod of this node has its address alone. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_cni::attachment::Port;

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut behind: BTreeMap<IpAddr, Vec<&Port>> = BTreeMap::new();
    for port in &facts.kernel.ports {
        for address in &port.addresses {
            behind.entry(*address).or_default().push(port);
        }
    }
    let shared = behind.into_iter().filter(|(_, ports)| ports.len() > 1);
    shared
        .map(|(address, ports)| {
            let names: Vec<_> = ports.iter().map(|port| called(port)).collect();
            let what = format!(
                "{} pods of this node have it, and each gets packets of the others: {}",
                ports.len(),
                names.join(", ")
            );
            let links: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            let remedy = format!(
                "delete all of these pods but one; where a pod is gone and its link stays: ip link delete {}",
                links.join(" or ")
            );
            Finding::fault(address, what).remedy(remedy)
        })
        .collect()
}

/// A port, with the container that its alias names.
fn called(port: &Port) -> String {
    let name = &port.name;
    port.attachment
        .as_ref()
        .map_or_else(|| name.to_string(), |owner| format!("{name} of container {}", owner.container))
}
