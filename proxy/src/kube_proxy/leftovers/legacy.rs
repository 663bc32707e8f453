//! The chains of iptables-legacy.

use std::collections::BTreeSet;

use dataplane::types::Family;
use dataplane::xtables::{self, Chain};

use super::nftables::{IPTABLES, POSTROUTING, SERVICES, is_own};

/// What kube-proxy has left.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) chains: usize,
    /// Chains are among them that kube-proxy alone makes.
    pub(super) has_services: bool,
}

/// True where chains are there that kube-proxy alone makes.
pub(super) fn are_there() -> bool {
    tables().any(|chains| has_services(&chains))
}

/// Counts kube-proxy's chains.
pub(super) fn read() -> Found {
    tables().fold(Found::default(), |found, chains| Found {
        chains: found.chains + own(&chains).len(),
        has_services: found.has_services || has_services(&chains),
    })
}

/// Removes kube-proxy's chains with the jumps to them. Gives their number.
pub(super) fn remove() -> Result<usize, xtables::Error> {
    names().map(|(family, table)| xtables::remove_chains(family, table, own)).sum()
}

fn has_services(chains: &[Chain]) -> bool {
    chains.iter().any(|chain| chain.name == SERVICES)
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
