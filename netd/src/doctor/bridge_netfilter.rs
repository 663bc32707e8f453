//! Whether packets between pods of one node meet iptables, and whether they should. Pure.

use dataplane::nft::TableFamily;
use dataplane::types::Family;

use super::facts::Facts;
use super::finding::Finding;
use super::{forward_policy, sysctl};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let families = facts.node.identity.networks.families();
    families.filter_map(|family| of_family(facts, family)).collect()
}

fn of_family(facts: &Facts, family: Family) -> Option<Finding> {
    let key = sysctl::bridge_nf_call(family);
    let of_both = |table: TableFamily, alone| table == TableFamily::Inet || table == alone;
    let alone = if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 };
    if facts.sysctl(key) == Some("1") {
        let chain = forward_policy::closed(facts).find(|chain| of_both(chain.table.family, alone))?;
        let what = format!(
            "packets between {family} pods of this node meet chain {} of table {} too, which drops them",
            chain.chain, chain.table
        );
        return Some(Finding::fault(key, what).remedy(sysctl::command(key, "0")));
    }
    // By iptables or ipvs, the answer of a pod to a pod on the same bridge would keep the Service's address untranslated.
    let services = facts.kernel.chains.iter().any(|(table, chain)| table.family == alone && chain == "KUBE-SERVICES");
    services.then(|| {
        let what = format!("kube-proxy keeps {family} rules in iptables, which packets between pods of this node do not meet: their connections to Services on it fail");
        Finding::warning(key, what).remedy(format!("modprobe br_netfilter && {}", sysctl::command(key, "1")))
    })
}
