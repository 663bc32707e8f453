//! A run over everything, after a dump.
//!
//! Of the elements that agree only the bytes are in memory, and only during the run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dataplane::nft::{self, Operation, SetFlags, Table, TableId};
use reconcile::RunKind;

use super::transactions::carry_out;
use super::{Keeper, Op, Rules, RunReport, clients};
use crate::ruleset::{Contents, Element, Presence, SetName};

impl Keeper {
    /// Makes the kernel's table as desired.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub(super) fn run_full(&mut self, socket: &mut nft::Socket, now: Duration) -> Result<RunReport, nft::Error> {
        let extension = std::mem::take(&mut self.extension);
        if self.engine.is_incremental() && !extension.is_empty() {
            // What is right in the table stays. Where the kernel refuses this, the table is made anew.
            let _ = socket.apply(&extension);
        }
        self.sets = self.ruleset.sets();
        let TableId { family, name } = self.ruleset.id();
        let (ops, is_made) = match socket.read_table_without_elements(family, &name)? {
            Some(present) if present == self.definition() => {
                let differences = self.differences(&present, socket, |_| true)?;
                (self.ops(differences, socket)?, false)
            }
            Some(present) => (vec![self.replacement(present, socket)?], true),
            None => (self.creation(), true),
        };
        let kind = RunKind { repairs: !is_made, full: true };
        let (report, deferred) = self
            .engine
            .run(&Rules, ops, Vec::new(), (kind, now), |ops| carry_out(|operations| socket.apply(operations), ops));
        let is_complete = report.is_clean() && deferred.ops.is_empty();
        self.engine.adopt(BTreeMap::new(), BTreeSet::new(), is_complete);
        if !is_complete {
            self.engine.require_full();
        }
        Ok(report)
    }

    /// The table without any element.
    fn definition(&self) -> Table {
        let mut table = Table::clone(self.ruleset.skeleton());
        table.sets.values_mut().for_each(|set| set.elements.clear());
        table
    }

    /// The ops that make a table where there is none, in several transactions: nobody misses what the first ones do not have yet. The
    /// addresses of Services come last, so that each Service works at once as a whole.
    pub(super) fn creation(&self) -> Vec<Op> {
        let id = self.ruleset.id();
        let mut ops = vec![Op::Replace(id.clone(), vec![Operation::ReplaceTable(self.definition())])];
        for (set, contents) in self.ruleset.contents().into_iter().rev() {
            let operations = contents.operations(&id, &set.to_string()).into_iter();
            ops.extend(operations.map(|(count, operation)| Op::Fill(id.clone(), count, operation)));
        }
        ops
    }

    /// The op that makes the table anew in place of one with other sets or rules, in one transaction. Clients with affinity stay.
    fn replacement(&self, mut present: Table, socket: &mut nft::Socket) -> Result<Op, nft::Error> {
        let id = self.ruleset.id();
        let moves = self.moves(
            &self.differences(&present, socket, |set| matches!(set, SetName::Slot(..) | SetName::Affinity(..)))?,
        );
        clients::read(&mut present, |set, definition| socket.read_elements(&id, set, definition))?;
        let mut desired = self.definition();
        clients::keep(&present, &mut desired, &moves);
        let mut operations = vec![Operation::ReplaceTable(desired)];
        for (set, contents) in self.ruleset.contents() {
            operations.extend(contents.operations(&id, &set.to_string()).into_iter().map(|(_, operation)| operation));
        }
        Ok(Op::Replace(id, operations))
    }

    /// The elements of some sets that are not as desired in `present`, with what they are. A set that is not there or of another kind has
    /// no elements.
    pub(super) fn differences(
        &self,
        present: &Table,
        socket: &mut nft::Socket,
        of: impl Fn(SetName) -> bool,
    ) -> Result<Vec<(Element, Presence)>, nft::Error> {
        let id = self.ruleset.id();
        let mut differences = Vec::new();
        for (set, desired) in self.ruleset.contents().into_iter().filter(|(set, _)| of(*set)) {
            let name = set.to_string();
            let Some(definition) = self.ruleset.skeleton().sets.get(&name) else { continue };
            let definition = definition.without_elements();
            let is_there = present.sets.get(&name).is_some_and(|there| there.without_elements() == definition);
            let there = if !is_there {
                Contents::of(definition)
            } else if definition.flags.has(SetFlags::INTERVAL) {
                Contents::Ranges(socket.read_elements(&id, &name, &definition)?)
            } else {
                let records = socket.read_records(&id, &name, &definition)?;
                records.map_or_else(|| Contents::of(definition), Contents::Bytes)
            };
            let deviating = desired.deviating(&there).into_iter();
            differences.extend(deviating.map(|(key, observed)| (Element { set, key }, observed)));
        }
        Ok(differences)
    }
}
