//! Chains of others that drop forwarded packets by policy, such as Docker's: pods' packets have to pass those too.
//!
//! Pure. An accept in our own table does not count there: each table decides for itself. In the chain that iptables and
//! Docker share, rules of ours at the end let pods' packets pass, as flannel's do; before them, the rules of others
//! (`NetworkPolicy` engines among them) have decided already. Other chains are not ours to write to: an operator is told.

use dataplane::nft::{
    BaseChainFacts, Expression, Family as TableFamily, Hook, Policy, Rule, Side, Statement, TableId, Verdict,
};
use dataplane::words::{Family, Prefix};

use super::Input;

/// By this comment our rules in others' chains are known.
pub fn comment(mark: &str) -> String {
    format!("{mark}: pods may be forwarded")
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

/// What keeps pods' packets from being forwarded, with what to type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chain {chain} of table {table} drops forwarded packets of pods; to let them pass: {remedy}")]
pub struct Blocker {
    /// `FAMILY NAME` as `nft` takes them.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Commands for a shell.
    pub remedy: String,
}

/// The rules to be in others' chains, and the chains that only an operator can open.
pub fn accepts(input: &Input<'_>) -> (Vec<Accept>, Vec<Blocker>) {
    let (mut accepts, mut blockers) = (Vec::new(), Vec::new());
    let own = input.identity.table();
    for facts in input.forward_chains {
        if facts.table == own || facts.base.hook != Hook::Forward || facts.base.policy != Policy::Drop {
            continue;
        }
        let networks = networks(facts.table.family, input);
        if is_iptables(facts) {
            let comment = comment(&input.identity.mark);
            accepts.extend(networks.iter().flat_map(|(family, network)| {
                [Side::Source, Side::Destination].map(|side| Accept {
                    table: facts.table.clone(),
                    chain: facts.chain.clone(),
                    rule: accept(*family, side, *network).with_comment(&comment),
                })
            }));
        } else if !networks.is_empty() {
            blockers.push(blocker(facts, &networks));
        }
    }
    (accepts, blockers)
}

/// True for the chain of the `filter` table that `iptables` and `ip6tables` keep in nftables.
pub fn is_iptables(facts: &BaseChainFacts) -> bool {
    matches!(facts.table.family, TableFamily::Ip | TableFamily::Ip6)
        && facts.table.name == "filter"
        && facts.chain == "FORWARD"
}

/// The pod networks whose packets a table of this family sees.
fn networks(family: TableFamily, input: &Input<'_>) -> Vec<(Family, Prefix)> {
    let sees = |of: Family| match family {
        TableFamily::Ip => of == Family::V4,
        TableFamily::Ip6 => of == Family::V6,
        TableFamily::Inet => true,
        _ => false,
    };
    let networks = input.identity.networks.iter().map(|(family, network)| (family, *network));
    networks.filter(|(family, _)| sees(*family)).collect()
}

/// With a counter, as iptables writes and expects its own.
fn accept(family: Family, side: Side, network: Prefix) -> Rule {
    let matches = Statement::eq(Expression::Address(family, side), network);
    Rule::new([matches, Statement::Counter, Verdict::Accept.into()])
}

fn blocker(facts: &BaseChainFacts, networks: &[(Family, Prefix)]) -> Blocker {
    let table = format!("{} {}", facts.table.family, facts.table.name);
    let ranges = networks.iter().map(|(_, network)| *network);
    let remedy = if facts.table.name == "firewalld" {
        let add = |range: Prefix| format!("firewall-cmd --permanent --zone=trusted --add-source={range}");
        ranges.map(add).chain(["firewall-cmd --reload".to_owned()]).collect::<Vec<_>>()
    } else {
        let words = |family| if family == Family::V4 { "ip" } else { "ip6" };
        let insert = |(family, range): &(Family, Prefix), side: &str| {
            format!("nft insert rule {table} {} {} {side} {range} accept", facts.chain, words(*family))
        };
        networks.iter().flat_map(|network| ["saddr", "daddr"].map(|side| insert(network, side))).collect()
    };
    Blocker { table, chain: facts.chain.clone(), remedy: remedy.join(" && ") }
}
