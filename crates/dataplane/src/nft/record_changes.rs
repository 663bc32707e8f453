//! What has to change so that the kernel has the elements that it should, in transactions of bounded size. Pure.

use std::cmp::Ordering;

use super::operation::{Operation, RecordList, Transaction};
use super::records::Records;
use super::table::TableId;

/// How many elements one transaction should have at most. Until a transaction is committed, the kernel holds a lock that every other
/// program that changes nftables in this network namespace waits for: it should be free again after 50 ms. Linux 6.18 takes 16 ms, or
/// at worst 27 ms, for 10,000 elements with keys of 28 bytes (one core, 250,000 elements); for 25,000 it takes more than 100 ms.
pub const ELEMENTS_PER_TRANSACTION: usize = 10_000;

/// How two sets of elements differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Wanted elements whose keys were not found.
    pub missing: Records,
    /// Found elements whose keys are not wanted.
    pub foreign: Records,
    /// Wanted elements whose keys were found with other data or another comment.
    pub different: Records,
}

impl Difference {
    /// True where the two are the same.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.foreign.is_empty() && self.different.is_empty()
    }
}

impl Records {
    /// How what was found of a set differs from what is wanted, which is `self`.
    pub fn difference(&self, found: &Self) -> Difference {
        let (mut missing, mut foreign, mut different) = (self.empty(), self.empty(), self.empty());
        let (mut wanted, mut found) = (self.iter().peekable(), found.iter().peekable());
        loop {
            let order = match (wanted.peek(), found.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.key().cmp(other.key()),
            };
            let one = if order.is_le() { wanted.next() } else { None };
            let other = if order.is_ge() { found.next() } else { None };
            match (one, other) {
                (Some(one), Some(other)) if one == other => {}
                (Some(one), Some(_)) => different.copy(one),
                (Some(one), None) => missing.copy(one),
                (None, Some(other)) => foreign.copy(other),
                (None, None) => {}
            }
        }
        Difference { missing, foreign, different }
    }

    /// The same in parts of at most `limit` elements.
    pub fn chunks(&self, limit: usize) -> impl Iterator<Item = Self> {
        let mut rest = self.iter().peekable();
        std::iter::from_fn(move || {
            rest.peek()?;
            let mut chunk = self.empty();
            rest.by_ref().take(limit.max(1)).for_each(|record| chunk.copy(record));
            Some(chunk)
        })
    }
}

/// A change of the elements of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// The table.
    pub table: TableId,
    /// The set's name.
    pub set: String,
    /// What changes.
    pub difference: Difference,
}

impl RecordChange {
    fn list(&self, records: Records) -> RecordList {
        RecordList { table: self.table.clone(), set: self.set.clone(), records }
    }
}

/// The transactions that make these changes, each of at most `limit` operations on an element: first all additions, then
/// replacements, then all removals, those of the last set first. So elements that lead to others should be in the later sets. An
/// element that is replaced is there at all times.
pub fn transactions(changes: &[RecordChange], limit: usize) -> Vec<Transaction> {
    let add = |change: &RecordChange, part| vec![Operation::AddRecords(change.list(part))];
    let delete = |change: &RecordChange, part| vec![Operation::DeleteRecords(change.list(part))];
    let replace = |change: &RecordChange, part: Records| [delete(change, part.clone()), add(change, part)].concat();
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut room = 0;
    let mut push = |cost: usize, operations: Vec<Operation>| {
        if cost > room {
            transactions.push(Transaction::default());
            room = limit;
        }
        room = room.saturating_sub(cost);
        if let Some(last) = transactions.last_mut() {
            last.operations.extend(operations);
        }
    };
    for change in changes {
        change.difference.missing.chunks(limit).for_each(|part| push(part.len(), add(change, part)));
    }
    for change in changes {
        change.difference.different.chunks(limit / 2).for_each(|part| push(2 * part.len(), replace(change, part)));
    }
    for change in changes.iter().rev() {
        change.difference.foreign.chunks(limit).for_each(|part| push(part.len(), delete(change, part)));
    }
    transactions
}
