//! The chains of iptables-legacy.

use std::collections::BTreeSet;

use dataplane::types::Family;
use dataplane::xtables::{self, Chain};

use super::nftables::{IPTABLES, POSTROUTING, SERVICES, is_own};

/// True where chains are there that kube-proxy alone makes.
pub(super) fn are_there() -> bool {
    tables().any(|chains| chains.iter().any(|chain| chain.name == SERVICES))
}

/// How many chains of kube-proxy's there are.
pub(super) fn count() -> usize {
    tables().map(|chains| own(&chains).len()).sum()
}

/// Removes kube-proxy's chains with the jumps to them. Gives their number.
pub(super) fn remove() -> Result<usize, xtables::Error> {
    names().map(|(family, table)| xtables::remove_chains(family, table, own)).sum()
}

fn names() -> impl Iterator<Item = (Family, &'static str)> {
    Family::BOTH.into_iter().flat_map(|family| IPTABLES.map(|table| (family, table)))
}

/// The chains of each table. One that cannot be read counts as absent: it must not keep other rules from being removed.
fn tables() -> impl Iterator<Item = Vec<Chain>> {
    names().filter_map(|(family, table)| {
        xtables::chains(family, table).unwrap_or_else(|error| {
            tracing::debug!("{}", apiserver::chain(&error));
            None
        })
    })
}

/// The names of those that are removed.
fn own(chains: &[Chain]) -> BTreeSet<String> {
    let (own, others): (Vec<_>, Vec<_>) = chains.iter().partition(|chain| !chain.is_base && is_own(&chain.name));
    let mut own: BTreeSet<String> = own.into_iter().map(|chain| chain.name.clone()).collect();
    for target in others.into_iter().filter(|chain| !chain.is_base).flat_map(|chain| &chain.targets) {
        // Another program's own chain uses it: portmap may mark packets by it.
        if own.remove(target) {
            own.remove(POSTROUTING);
        }
    }
    own
}

#[cfg(test)]
mod tests;
