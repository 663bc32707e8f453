//! What a run did.

use std::collections::BTreeMap;

/// The result of a run.
#[derive(Debug)]
pub struct Report<O, E, C> {
    /// How many ops were carried out.
    pub applied: usize,
    /// The ops that were refused.
    pub failed: Vec<(O, E)>,
    /// Where a foreign object stands in the place of a desired one.
    pub conflicts: Vec<C>,
    /// Ops of both results, by kind.
    pub counts: BTreeMap<&'static str, Count>,
    /// True where no essential op was refused.
    pub is_ready: bool,
}

/// How many ops of one kind there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Carried out.
    pub applied: u64,
    /// Refused.
    pub failed: u64,
}

impl<O, E, C> Default for Report<O, E, C> {
    fn default() -> Self {
        let (failed, conflicts, counts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { applied: 0, failed, conflicts, counts, is_ready: true }
    }
}

impl<O, E, C> Report<O, E, C> {
    /// True where nothing is left undone that another try could do.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Adds the result of one op. `is_done` is true for an error that leaves the object as desired.
    pub fn add(&mut self, kind: &'static str, op: O, result: Result<(), E>, is_done: impl FnOnce(&O, &E) -> bool) {
        let count = self.counts.entry(kind).or_default();
        match result {
            Err(error) if !is_done(&op, &error) => {
                count.failed += 1;
                self.failed.push((op, error));
            }
            _ => {
                count.applied += 1;
                self.applied += 1;
            }
        }
    }
}
