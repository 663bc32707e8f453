//! Chains of others that drop forwarded packets, such as Docker's: pods' packets have to pass these chains too.
//!
//! Pure. An accept in our own table does not help there, since each table decides for itself. In the chain that iptables and Docker
//! share, rules of ours at the end accept pods' packets, as flannel's rules do: the rules of others before ours, such as those of
//! `NetworkPolicy` engines, decide first, and a last rule that rejects comes after ours. netd does not write to other chains of
//! others: netd reports them as long as they block.

pub mod blocker;

use std::collections::BTreeMap;

use dataplane::nft::{
    BaseChainFacts, Expression, Hook, Policy, Rule, Side, Statement, Subject, TableFamily, TableFilter, TableId,
    Verdict,
};
use dataplane::types::{Family, PerFamily, Prefix};
use dataplane::xtables;

use super::Input;
pub use blocker::{Blocker, not_accepted};

/// The chain that iptables' policy for forwarded packets is of.
const CHAIN: &str = "FORWARD";

/// The comment by which our rules in others' chains are known.
pub fn comment(mark: &str) -> String {
    format!("{mark}: pods may be forwarded")
}

/// What others' rules do with forwarded packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Others {
    /// The rules of each chain that [`to_read`] names.
    pub rules: BTreeMap<(TableId, String), Vec<Rule>>,
    /// The FORWARD chain of iptables-legacy, where iptables-legacy is in use.
    pub legacy: PerFamily<xtables::Forward>,
}

/// A rule of ours in a chain of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The table.
    pub table: TableId,
    /// The chain.
    pub chain: String,
    /// The rule.
    pub rule: Rule,
}

/// What a chain does with forwarded packets of pods.
enum Role {
    /// The chain does not drop them.
    Harmless,
    /// The chain's policy drops them, and rules of ours may stand in the chain.
    Shared,
    /// The chain's policy drops them.
    Dropping,
    /// firewalld's zones decide.
    Firewalld,
}

fn role(facts: &BaseChainFacts, own: &TableId) -> Role {
    if facts.table == *own || facts.base.hook != Hook::Forward {
        return Role::Harmless;
    }
    if facts.table.name == blocker::FIREWALLD {
        // firewalld rejects by a rule at the end of the chain; the chain's policy is to accept.
        return if facts.chain == "filter_FORWARD" { Role::Firewalld } else { Role::Harmless };
    }
    match facts.base.policy {
        Policy::Accept => Role::Harmless,
        Policy::Drop if is_iptables(facts) => Role::Shared,
        Policy::Drop => Role::Dropping,
    }
}

/// The chains whose rules decide whether `facts`, a base chain, blocks pods.
pub fn to_read(facts: &BaseChainFacts, own: &TableId) -> Vec<String> {
    match role(facts, own) {
        Role::Harmless | Role::Shared => Vec::new(),
        Role::Dropping => vec![facts.chain.clone()],
        Role::Firewalld => blocker::FIREWALLD_ZONES.map(str::to_owned).to_vec(),
    }
}

/// Our rules for others' chains, and the chains that only an operator can open.
pub fn accepts(input: &Input<'_>) -> (Vec<Accept>, Vec<Blocker>) {
    let (mut accepts, mut blockers) = (Vec::new(), Vec::new());
    let own = input.identity.table();
    for facts in input.forward_chains {
        let networks = networks_in(facts.table.family, &input.identity.networks);
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
            Role::Dropping => blockers.extend(Blocker::of_chain(facts, &networks, input.others, input.bridge_name)),
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

/// The tables of [`is_of_shared_chain`], with the part whose notifications matter.
pub fn shared_chains() -> impl Iterator<Item = (TableId, TableFilter)> {
    let families = [TableFamily::Ip, TableFamily::Ip6];
    families.into_iter().map(|family| (TableId::new(family, "filter"), TableFilter::of_chains([CHAIN])))
}

/// True for a notification about the chain that iptables and Docker share, its policy or its rules; false for the chains beside it,
/// which other programs change all the time.
pub fn is_of_shared_chain(table: &TableId, what: &Subject) -> bool {
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

/// The networks whose packets a table of this family sees.
pub fn networks_in(family: TableFamily, networks: &PerFamily<Prefix>) -> Vec<Prefix> {
    let is_seen = |of: Family| match family {
        TableFamily::Ip => of == Family::V4,
        TableFamily::Ip6 => of == Family::V6,
        other => other == TableFamily::Inet,
    };
    networks.iter().filter(|(family, _)| is_seen(*family)).map(|(_, network)| *network).collect()
}

/// With a counter, as iptables writes and expects its own.
fn accept(side: Side, network: Prefix) -> Rule {
    let matches = Statement::eq(Expression::Address(network.family(), side), network);
    Rule::new([matches, Statement::Counter, Verdict::Accept.into()])
}
