//! The rules that flannel leaves on a node when it ends: chains of iptables and tables of nftables, under names that never change.
//!
//! They rewrite packets for a network that flannel keeps true no more. Rules about a network of ours are removed once our own rules stand.
//! Another flannel on the host, with another network, keeps its rules.

use dataplane::kernel::Kernel;
use dataplane::netlink::KernelError;
use dataplane::nft::{
    BaseChainFacts, Operand, Operation, Rule, RuleWithHandle, Statement, TableFamily, TableId, Verdict,
};

use crate::overlay::Identity;

/// The chains that iptables keeps for flannel: table, the kernel's chain, and flannel's that it jumps to.
pub const CHAINS: [(&str, &str, &str); 2] =
    [("nat", "POSTROUTING", "FLANNEL-POSTRTG"), ("filter", "FORWARD", "FLANNEL-FWD")];
/// The tables that flannel makes with `EnableNFTables`.
pub const TABLES: [(TableFamily, &str); 2] = [(TableFamily::Ip, "flannel-ipv4"), (TableFamily::Ip6, "flannel-ipv6")];

/// Reads which changes remove flannel's rules; none where the rules are about other networks. Chains without a rule are removed too: a
/// flannel that ended while it started leaves them.
pub fn leftovers(
    kernel: &mut impl Kernel,
    chains: &[BaseChainFacts],
    identity: &Identity,
) -> Result<Vec<Operation>, KernelError> {
    let (mut changes, mut rules) = (Vec::new(), Vec::new());
    for facts in chains {
        if TABLES.iter().any(|(family, name)| facts.table == TableId::new(*family, *name)) {
            rules.extend(kernel.rules(&facts.table, &facts.chain)?);
            let change = Operation::DeleteTable(facts.table.clone());
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        for (_, _, name) in CHAINS.into_iter().filter(|(table, chain, _)| is(facts, table, chain)) {
            let before = kernel.rules(&facts.table, &facts.chain)?;
            let jumps: Vec<&RuleWithHandle> = before.iter().filter(|placed| jumps_to(&placed.rule, name)).collect();
            if jumps.is_empty() {
                continue;
            }
            rules.extend(kernel.rules(&facts.table, name)?);
            let (table, chain) = (&facts.table, &facts.chain);
            let jump = |placed: &RuleWithHandle| Operation::DeleteRule {
                table: table.clone(),
                chain: chain.clone(),
                handle: placed.handle,
            };
            changes.extend(jumps.into_iter().map(jump));
            changes.push(Operation::DeleteChain { table: table.clone(), name: name.to_owned() });
        }
    }
    // One flannel has made all of them. Rules of a family that flannel's network does not have name no network.
    let is_ours = rules.is_empty() || rules.iter().any(|placed| concerns(&placed.rule, identity));
    Ok(if is_ours { changes } else { Vec::new() })
}

fn is(facts: &BaseChainFacts, table: &str, chain: &str) -> bool {
    matches!(facts.table.family, TableFamily::Ip | TableFamily::Ip6)
        && facts.table.name == table
        && facts.chain == chain
}

fn jumps_to(rule: &Rule, chain: &str) -> bool {
    rule.statements.iter().any(|one| matches!(one, Statement::Verdict(Verdict::Jump(to)) if to == chain))
}

/// True for a rule that matches addresses of our networks.
fn concerns(rule: &Rule, identity: &Identity) -> bool {
    rule.statements
        .iter()
        .any(|one| matches!(one, Statement::Compare { right: Operand::Prefix(range), .. } if identity.covers(*range)))
}

#[cfg(test)]
mod tests;
