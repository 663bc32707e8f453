//! Chains that drop forwarded packets by policy, unless rules accept the pods' packets before. Pure.
//!
//! [`forward::not_accepted`] judges the rules. A chain that jumps to others, or has conditions that are not understood here, may accept
//! the packets all the same: that is a warning.

use dataplane::nft::{BaseChainFacts, Hook, Policy, Rule, Statement, TableFamily, Verdict};
use dataplane::types::Prefix;
use network::overlay::forward::{self, Blocker};

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let others = facts.outcome.blockers.iter().filter_map(|blocker| match blocker {
        Blocker::Chain { .. } => None,
        Blocker::Firewalld { remedy, .. } => {
            let what = "may reject forwarded packets of pods, which it does not trust";
            Some(Finding::warning("firewalld", what).remedy(remedy.clone()))
        }
        Blocker::Legacy { command, remedy } => {
            let what = "drops forwarded packets, those of pods among them";
            Some(Finding::fault(format!("{command} FORWARD"), what).remedy(remedy.clone()))
        }
    });
    closed(facts).map(|chain| finding(facts, chain)).chain(others).collect()
}

/// The chains that drop pods' packets by policy.
pub(super) fn closed(facts: &Facts) -> impl Iterator<Item = &BaseChainFacts> {
    let own = facts.node.identity.table();
    let dropping = facts.kernel.host.base_chains.iter().filter(move |chain| {
        chain.table != own && chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop
    });
    dropping.filter(|chain| {
        let (networks, rules) = (networks(facts, chain), facts.rules_of(chain));
        forward::not_accepted(&networks, rules, &facts.node.bridge).next().is_some()
    })
}

/// The pod networks whose packets a chain sees.
fn networks(facts: &Facts, chain: &BaseChainFacts) -> Vec<Prefix> {
    forward::networks_in(chain.table.family, &facts.node.identity.networks)
}

/// True for a rule that may accept pods' packets in a way that is not understood here.
fn is_intricate(rule: &Rule) -> bool {
    let goes_on = |statement: &Statement| matches!(statement, Statement::Verdict(Verdict::Jump(_) | Verdict::Goto(_)));
    let accepts = rule.statements.last() == Some(&Statement::Verdict(Verdict::Accept));
    accepts || rule.statements.iter().any(goes_on)
}

fn finding(facts: &Facts, chain: &BaseChainFacts) -> Finding {
    let name = format!("{} {} {}", chain.table.family, chain.table.name, chain.chain);
    let finding = if facts.rules_of(chain).iter().any(is_intricate) {
        Finding::warning(name, "drops forwarded packets by policy, and no rule of it says that all of pods' pass")
    } else {
        Finding::fault(name, "drops forwarded packets by policy, those of pods among them")
    };
    if forward::is_iptables(chain) {
        return finding.remedy(iptables(facts, chain));
    }
    let in_table = format!("{} {}", chain.table.family, chain.table.name);
    let remedy = facts.outcome.blockers.iter().find_map(|blocker| match blocker {
        Blocker::Chain { table, chain: name, remedy } if *table == in_table && *name == chain.chain => Some(remedy),
        _ => None,
    });
    Finding { remedy: remedy.cloned(), ..finding }
}

fn iptables(facts: &Facts, chain: &BaseChainFacts) -> String {
    let program = if chain.table.family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
    let open = |range: Prefix| ["-s", "-d"].map(|side| format!("{program} -A FORWARD {side} {range} -j ACCEPT"));
    networks(facts, chain).into_iter().flat_map(open).collect::<Vec<_>>().join(" && ")
}
