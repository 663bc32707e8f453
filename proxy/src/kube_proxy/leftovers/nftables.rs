//! Tables of nftables, and chains of iptables that `nf_tables` keeps.

use std::collections::BTreeSet;

use dataplane::nft::{self, Base, Operation, RuleWithHandle, Statement, TableFamily, TableId, Verdict};

/// The table of kube-proxy's mode nftables.
const TABLE: &str = "kube-proxy";
/// The tables of iptables in which kube-proxy has chains.
pub(super) const IPTABLES: [&str; 3] = ["nat", "filter", "mangle"];
/// Its chains of the modes iptables and ipvs.
const CHAINS: [&str; 13] = [
    SERVICES,
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    POSTROUTING,
    MARK,
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT",
];
/// The beginnings of the names of chains of one Service or endpoint.
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-EXT-", "KUBE-SEP-"];
/// All of its modes of iptables have this one.
pub(super) const SERVICES: &str = "KUBE-SERVICES";
/// Marks a packet to be masqueraded, and the chain that masquerades what is marked.
const MARK: &str = "KUBE-MARK-MASQ";
pub(super) const POSTROUTING: &str = "KUBE-POSTROUTING";

/// What kube-proxy has left.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) tables: usize,
    pub(super) chains: usize,
    /// Remove them, as one transaction.
    pub(super) operations: Vec<Operation>,
}

/// A chain of any table.
type AnyChain = (TableId, String, Option<Base>);

/// True where chains are among these that kube-proxy alone makes: older kubelets make some of the others.
pub(super) fn are_there(chains: &[AnyChain]) -> bool {
    chains.iter().any(|(table, chain, _)| table.name == TABLE || chain == SERVICES)
}

/// Reads what kube-proxy has left of these chains of the kernel.
pub(super) fn read(socket: &mut nft::Socket, chains: &[AnyChain]) -> Result<Found, nft::Error> {
    find(chains, |table, chain| socket.read_rules(table.family, &table.name, chain))
}

/// The same. `rules` reads those of one chain.
fn find<E>(
    chains: &[AnyChain],
    mut rules: impl FnMut(&TableId, &str) -> Result<Vec<RuleWithHandle>, E>,
) -> Result<Found, E> {
    let of_ip = |table: &TableId| matches!(table.family, TableFamily::Ip | TableFamily::Ip6);
    let ids: BTreeSet<&TableId> = chains.iter().map(|(table, ..)| table).filter(|table| of_ip(table)).collect();
    let mut found = Found::default();
    for id in ids {
        if id.name == TABLE {
            found.tables += 1;
            found.operations.push(Operation::DeleteTable(id.clone()));
        }
        if IPTABLES.contains(&id.name.as_str()) {
            let names = chains.iter().filter(|(table, ..)| table == id).map(|(_, name, base)| (name.as_str(), base));
            let (own, others): (Vec<_>, Vec<_>) = names.partition(|(name, base)| base.is_none() && is_own(name));
            if own.is_empty() {
                continue;
            }
            let mut own: BTreeSet<&str> = own.into_iter().map(|(name, _)| name).collect();
            let mut jumps = Vec::new();
            for (chain, base) in others {
                for placed in rules(id, chain)? {
                    let Some(to) = target(&placed).filter(|to| own.contains(to)).map(str::to_owned) else { continue };
                    if base.is_some() {
                        jumps.push((chain, to, placed.handle));
                    } else {
                        // Another program's own chain uses it: portmap may mark packets by it.
                        own.remove(to.as_str());
                        own.remove(POSTROUTING);
                    }
                }
            }
            found.chains += own.len();
            let chain = |chain: &str| (id.clone(), chain.to_owned());
            let deleted = jumps.into_iter().filter(|(_, to, _)| own.contains(to.as_str()));
            found.operations.extend(deleted.map(|(from, _, handle)| {
                let (table, chain) = chain(from);
                Operation::DeleteRule { table, chain, handle }
            }));
            // All of them are emptied first: they jump to each other.
            found.operations.extend(own.iter().map(|name| {
                let (table, name) = chain(name);
                Operation::FlushChain { table, name }
            }));
            found.operations.extend(own.iter().map(|name| {
                let (table, name) = chain(name);
                Operation::DeleteChain { table, name }
            }));
        }
    }
    Ok(found)
}

pub(super) fn is_own(chain: &str) -> bool {
    CHAINS.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// The chain that a rule leads to.
fn target(placed: &RuleWithHandle) -> Option<&str> {
    placed.rule.statements.iter().find_map(|statement| match statement {
        Statement::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => Some(to.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
