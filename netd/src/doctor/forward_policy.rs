//! Chains that drop forwarded packets by policy, and whether pods' packets are let through before. Pure.
//!
//! Only what a rule of the chain itself says of all packets of pods counts; a chain that jumps to others or asks for what
//! is not understood here may let them through all the same, so that is a warning.

use dataplane::nft::{BaseChainFacts, Family as TableFamily, Hook, Policy, Rule, Statement, Verdict};
use dataplane::types::Prefix;
use network::overlay::forward::{self, Blocker};

use super::facts::Facts;
use super::{Check, Trouble};

pub(super) const CHECK: Check =
    Check { name: "forward policy", well: "no chain drops forwarded packets of pods by policy", judge };

fn judge(facts: &Facts) -> Vec<Trouble> {
    let others = facts.outcome.blockers.iter().filter_map(|blocker| match blocker {
        Blocker::Chain { .. } => None,
        Blocker::Firewalld { remedy, .. } => Some(
            Trouble::warning("firewalld".to_owned(), "may reject forwarded packets of pods, which it does not trust")
                .remedy(remedy.clone()),
        ),
        Blocker::Legacy { command, remedy } => Some(
            Trouble::fault(format!("{command} FORWARD"), "drops forwarded packets, those of pods among them")
                .remedy(remedy.clone()),
        ),
    });
    closed(facts).map(|chain| trouble(facts, chain)).chain(others).collect()
}

/// The chains that drop pods' packets by policy.
pub(super) fn closed(facts: &Facts) -> impl Iterator<Item = &BaseChainFacts> {
    let own = facts.node.identity.table();
    let dropping = facts.host.base_chains.iter().filter(move |chain| {
        chain.table != own && chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop
    });
    dropping.filter(|chain| !forward::lets_pass(facts.rules_of(chain), &networks(facts, chain)))
}

/// The pod networks whose packets a chain sees.
fn networks(facts: &Facts, chain: &BaseChainFacts) -> Vec<Prefix> {
    forward::networks_in(chain.table.family, &facts.node.identity.networks)
}

/// True where only an expert can say what becomes of a packet.
fn is_intricate(rule: &Rule) -> bool {
    let goes_on = |statement: &Statement| matches!(statement, Statement::Verdict(Verdict::Jump(_) | Verdict::Goto(_)));
    let accepts = rule.statements.last() == Some(&Statement::Verdict(Verdict::Accept));
    accepts || rule.statements.iter().any(goes_on)
}

fn trouble(facts: &Facts, chain: &BaseChainFacts) -> Trouble {
    let name = format!("{} {} {}", chain.table.family, chain.table.name, chain.chain);
    let trouble = if facts.rules_of(chain).iter().any(is_intricate) {
        Trouble::warning(name, "drops forwarded packets by policy, and no rule of it says that all of pods' pass")
    } else {
        Trouble::fault(name, "drops forwarded packets by policy, those of pods among them")
    };
    let table = format!("{} {}", chain.table.family, chain.table.name);
    let blockers = &facts.outcome.blockers;
    if forward::is_iptables(chain) {
        trouble.remedy(iptables(facts, chain))
    } else if let Some(remedy) = blockers.iter().find_map(|blocker| match blocker {
        Blocker::Chain { table: of, chain: name, remedy } if *of == table && *name == chain.chain => Some(remedy),
        _ => None,
    }) {
        trouble.remedy(remedy.clone())
    } else {
        trouble
    }
}

fn iptables(facts: &Facts, chain: &BaseChainFacts) -> String {
    let program = if chain.table.family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
    let open = |range| ["-s", "-d"].map(|side| format!("{program} -A FORWARD {side} {range} -j ACCEPT"));
    networks(facts, chain).into_iter().flat_map(open).collect::<Vec<_>>().join(" && ")
}
