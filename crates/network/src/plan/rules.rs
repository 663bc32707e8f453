//! The part of a plan about nftables: our table, and rules of ours in the chains of others.
//!
//! Pure.

use std::collections::BTreeMap;

use dataplane::nft::{Operation, Rule, TableId, Transaction};
use dataplane::op::Op;

use super::Diff;

impl Diff<'_> {
    /// Last, since ours stand by then; what is done of a plan sees to it where they do not. One transaction for each table.
    pub(super) fn leftovers(&mut self) {
        let by_table = self.observed.leftovers.chunk_by(|one, other| one.table() == other.table());
        self.plan.ops.extend(by_table.map(|operations| Op::Nft(operations.iter().cloned().collect())));
    }

    pub(super) fn rules(&mut self) {
        let (present, wanted) = (&self.observed.table, &self.desired.table);
        match wanted {
            Some(table) if present.as_ref() != Some(table) => {
                let elements = present.as_ref().and_then(|present| present.element_changes(table));
                let transaction = elements.unwrap_or_else(|| Operation::ReplaceTable(table.clone()).into());
                self.push(Op::Nft(transaction));
            }
            None if present.is_some() => self.push(Op::Nft(Operation::DeleteTable(self.identity.table()).into())),
            _ => {}
        }
        for (_, transaction) in self.accepts() {
            self.push(Op::Nft(transaction));
        }
    }

    /// One transaction for each chain of others: rules are added and removed together.
    fn accepts(&self) -> BTreeMap<(TableId, String), Transaction> {
        let (present, wanted) = (&self.observed.accepts, &self.desired.accepts);
        let mut transactions: BTreeMap<_, Transaction> = BTreeMap::new();
        let mut push = |operation: Operation, chain: &str| {
            let chain = (operation.table().clone(), chain.to_owned());
            transactions.entry(chain).or_default().operations.push(operation);
        };
        let wanted: Vec<_> = wanted.iter().map(|accept| (&accept.table, accept.chain.as_str(), &accept.rule)).collect();
        let present: Vec<_> = present
            .iter()
            .map(|(table, chain, placed)| ((table, chain.as_str(), &placed.rule), placed.handle))
            .collect();
        for (table, chain, rule) in wanted.iter().filter(|wanted| !present.iter().any(|(rule, _)| rule == *wanted)) {
            let (table, rule) = ((*table).clone(), (*rule).clone());
            push(Operation::AddRule { table, chain: (*chain).to_owned(), rule }, chain);
        }
        let mut kept: Vec<(&TableId, &str, &Rule)> = Vec::new();
        for (rule, handle) in present {
            if wanted.contains(&rule) && !kept.contains(&rule) {
                kept.push(rule);
            } else {
                let (table, chain, _) = rule;
                push(Operation::DeleteRule { table: table.clone(), chain: chain.to_owned(), handle }, chain);
            }
        }
        transactions
    }
}
