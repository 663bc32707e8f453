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
}
