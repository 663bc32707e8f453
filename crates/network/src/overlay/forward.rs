//! Chains of others that drop forwarded packets, such as Docker's: pods' packets have to pass those too.
//!
//! Pure. An accept in our own table does not count there: each table decides for itself. In the chain that iptables and
//! Docker share, rules of ours at the end let pods' packets pass, as flannel's do; before them, the rules of others
//! (`NetworkPolicy` engines among them) have decided already. What others append later stays behind ours: a last rule that
//! rejects is one of those. Other chains are not ours to write to: an operator is told,
//! for as long as they block.

pub mod blocker;

use std::collections::BTreeMap;

use dataplane::nft::{
    BaseChainFacts, Expression, Family as TableFamily, Hook, Policy, Rule, Side, Statement, Subject, TableFilter,
    TableId, Verdict,
};
use dataplane::types::{Family, PerFamily, Prefix};
use dataplane::xtables;

use super::Input;
pub use blocker::{Blocker, not_accepted};

/// The chain that iptables' policy for forwarded packets is of.
const CHAIN: &str = "FORWARD";

/// By this comment our rules in others' chains are known.
pub fn comment(mark: &str) -> String {
    format!("{mark}: pods may be forwarded")
}

/// What others' rules do with forwarded packets, as far as it has to be known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Others {
    /// The rules of each chain that [`to_read`] names.
    pub rules: BTreeMap<(TableId, String), Vec<Rule>>,
    /// What iptables-legacy does, where it is in use.
    pub legacy: PerFamily<xtables::Forward>,
}

/// A rule of ours in a chain that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The table.
    pub table: TableId,
    /// The chain.
    pub chain: String,
    /// The rule.
    pub rule: Rule,
}

/// What a chain is to forwarded packets of pods.
enum Role {
    /// Nothing that concerns us.
    Harmless,
    /// Its policy drops them, and rules of ours may stand in it.
    Shared,
    /// Its policy drops them.
    Dropping,
    /// It lets pass what firewalld's zones do.
    Firewalld,
}

fn role(facts: &BaseChainFacts, own: &TableId) -> Role {
    if facts.table == *own || facts.base.hook != Hook::Forward {
        return Role::Harmless;
    }
    if facts.table.name == blocker::FIREWALLD {
        // It rejects by a rule at its end; its policy is to accept.
        return if facts.chain == "filter_FORWARD" { Role::Firewalld } else { Role::Harmless };
    }
    match facts.base.policy {
        Policy::Accept => Role::Harmless,
        Policy::Drop if is_iptables(facts) => Role::Shared,
        Policy::Drop => Role::Dropping,
    }
}

/// The chains whose rules say whether `facts`, a chain that the kernel calls, blocks pods.
pub fn to_read(facts: &BaseChainFacts, own: &TableId) -> Vec<String> {
    match role(facts, own) {
        Role::Harmless | Role::Shared => Vec::new(),
        Role::Dropping => vec![facts.chain.clone()],
        Role::Firewalld => blocker::FIREWALLD_ZONES.map(str::to_owned).to_vec(),
    }
}

/// The rules to be in others' chains, and what only an operator can open.
pub fn accepts(input: &Input<'_>) -> (Vec<Accept>, Vec<Blocker>) {
    let (mut accepts, mut blockers) = (Vec::new(), Vec::new());
    let own = input.identity.table();
    for facts in input.forward_chains {
        let networks = networks(facts.table.family, input);
        match role(facts, &own) {
            Role::Harmless => {}
            Role::Shared => {
                let comment = comment(&input.identity.mark);
                accepts.extend(networks.iter().flat_map(|network| {
                    [Side::Source, Side::Destination].map(|side| Accept {
                        table: facts.table.clone(),
                        chain: facts.chain.clone(),
                        rule: accept(side, *network).with_comment(&comment),
                    })
                }));
            }
            Role::Dropping => blockers.extend(Blocker::of_chain(facts, &networks, input.others)),
            Role::Firewalld => blockers.extend(Blocker::of_firewalld(facts, &networks, input.others)),
        }
    }
    for (family, network) in input.identity.networks.iter() {
        let legacy = input.others.legacy.get(family);
        blockers.extend(legacy.and_then(|forward| Blocker::of_legacy(forward, *network)));
    }
    (accepts, blockers)
}

/// True for the chain of the `filter` table that `iptables` and `ip6tables` keep in nftables.
pub fn is_iptables(facts: &BaseChainFacts) -> bool {
    is_iptables_table(&facts.table) && facts.chain == CHAIN
}

/// The tables that [`may_change`] is about, with their part that is wanted.
pub fn watched() -> impl Iterator<Item = (TableId, TableFilter)> {
    let families = [TableFamily::Ip, TableFamily::Ip6];
    families.into_iter().map(|family| (TableId::new(family, "filter"), TableFilter::of_chains([CHAIN])))
}

/// True for what changes that chain, its policy or its rules: not for the chains beside it, which others write all the time.
pub fn may_change(table: &TableId, what: &Subject) -> bool {
    let is_it = match what {
        Subject::Table => true,
        Subject::Chain(chain) | Subject::Rule(chain) => chain == CHAIN,
        Subject::Set(_) | Subject::Elements { .. } | Subject::Other => false,
    };
    is_it && is_iptables_table(table)
}

fn is_iptables_table(table: &TableId) -> bool {
    matches!(table.family, TableFamily::Ip | TableFamily::Ip6) && table.name == "filter"
}

/// The pod networks whose packets a table of this family sees.
fn networks(family: TableFamily, input: &Input<'_>) -> Vec<Prefix> {
    let sees = |of: Family| match family {
        TableFamily::Ip => of == Family::V4,
        TableFamily::Ip6 => of == Family::V6,
        TableFamily::Inet => true,
        _ => false,
    };
    let networks = input.identity.networks.iter().map(|(_, network)| *network);
    networks.filter(|network| sees(network.family())).collect()
}

/// With a counter, as iptables writes and expects its own.
fn accept(side: Side, network: Prefix) -> Rule {
    let matches = Statement::eq(Expression::Address(network.family(), side), network);
    Rule::new([matches, Statement::Counter, Verdict::Accept.into()])
}
