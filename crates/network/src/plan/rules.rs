//! The part of a plan about nftables: our table, and rules of ours in the chains of others.
//!
//! Pure.

use std::collections::BTreeMap;

use dataplane::nft::{Operation, TableId, Transaction};
use dataplane::op::Op;

use super::Diff;
use crate::overlay::forward::Accept;

impl Diff<'_> {
    /// Flannel's rules are removed last, when ours stand. Where ours were refused, the removals are not carried
    /// out. One transaction for each table.
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
        let mut push = |accept: &Accept, operation: Operation| {
            let chain = (accept.table.clone(), accept.chain.clone());
            transactions.entry(chain).or_default().operations.push(operation);
        };
        for accept in wanted.iter().filter(|wanted| !present.iter().any(|(there, _)| there == *wanted)) {
            let Accept { table, chain, rule } = accept.clone();
            push(accept, Operation::AddRule { table, chain, rule });
        }
        let mut kept: Vec<&Accept> = Vec::new();
        for (accept, handle) in present {
            if wanted.contains(accept) && !kept.contains(&accept) {
                kept.push(accept);
            } else {
                let Accept { table, chain, .. } = accept.clone();
                push(accept, Operation::DeleteRule { table, chain, handle: *handle });
            }
        }
        transactions
    }
}
