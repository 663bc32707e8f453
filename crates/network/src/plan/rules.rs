//! The part of a plan about nftables: our table, and rules of ours in the chains of others.
//!
//! Pure.

use dataplane::nft::{Change, Rule, TableId};
use dataplane::op::Op;

use super::Diff;

impl Diff<'_> {
    /// Flannel's rules are removed last, when ours stand. Where ours were refused, the removals are not carried out.
    pub(super) fn leftovers(&mut self) {
        self.plan.ops.extend(self.observed.leftovers.iter().cloned().map(Op::Nft));
    }

    pub(super) fn rules(&mut self) {
        let (present, wanted) = (&self.observed.table, &self.desired.table);
        match wanted {
            Some(table) if present.as_ref() != Some(table) => {
                let elements = present.as_ref().and_then(|present| present.element_changes(table));
                let changes = elements.unwrap_or_else(|| vec![Change::ReplaceTable(table.clone())]);
                self.plan.ops.extend(changes.into_iter().map(Op::Nft));
            }
            None if present.is_some() => self.push(Op::Nft(Change::DeleteTable(self.identity.table()))),
            _ => {}
        }
        for accept in &self.desired.accepts {
            let there = self.observed.accepts.iter().any(|(table, chain, placed)| {
                *table == accept.table && *chain == accept.chain && placed.rule == accept.rule
            });
            if !there {
                let (table, chain, rule) = (accept.table.clone(), accept.chain.clone(), accept.rule.clone());
                self.push(Op::Nft(Change::AddRule { table, chain, rule }));
            }
        }
        let mut kept: Vec<(&TableId, &str, &Rule)> = Vec::new();
        for (table, chain, placed) in &self.observed.accepts {
            let wanted = self
                .desired
                .accepts
                .iter()
                .any(|accept| *table == accept.table && *chain == accept.chain && placed.rule == accept.rule);
            let this = (table, chain.as_str(), &placed.rule);
            if wanted && !kept.contains(&this) {
                kept.push(this);
            } else {
                let (table, chain, handle) = (table.clone(), chain.clone(), placed.handle);
                self.push(Op::Nft(Change::DeleteRule { table, chain, handle }));
            }
        }
    }
}
