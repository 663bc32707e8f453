//! The elements of a table's sets apart from the rest of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::{Elements, Operation, Transaction};
use super::table::{Element, Set, Table};
use super::value::Key;

impl Table {
    /// The same with no other elements than these.
    #[must_use]
    pub fn narrowed(&self, keys: &BTreeSet<Key>) -> Self {
        let narrow = |set: &Set| {
            let kept = keys.iter().filter_map(|key| Some((key.clone(), set.elements.get(key)?.clone())));
            set.with_elements(kept.collect())
        };
        Self {
            id: self.id.clone(),
            comment: self.comment.clone(),
            dormant: self.dormant,
            sets: self.sets.iter().map(|(name, set)| (name.clone(), narrow(set))).collect(),
            chains: self.chains.clone(),
        }
    }

    /// The transaction that makes this table equal to `wanted`, additions first; `None` where more than elements differs. Elements of
    /// dynamic sets stay as they are.
    pub fn element_changes(&self, wanted: &Self) -> Option<Transaction> {
        let no_keys = BTreeSet::new();
        (self.narrowed(&no_keys) == wanted.narrowed(&no_keys)).then_some(())?;
        let mut additions = Vec::new();
        let mut removals = Vec::new();
        let sets = self.sets.iter().zip(wanted.sets.values()).filter(|((_, set), _)| !set.is_dynamic());
        for ((name, present), wanted) in sets {
            let (added, removed) = present.changes_to(wanted)?;
            let change =
                |elements| Elements { table: self.id.clone(), set: name.clone(), flags: present.flags, elements };
            additions.extend((!added.is_empty()).then(|| Operation::AddElements(change(added))));
            removals.extend((!removed.is_empty()).then(|| Operation::DeleteElements(change(removed))));
        }
        additions.append(&mut removals);
        Some(Transaction { operations: additions })
    }
}

impl Set {
    /// The definition of the set.
    #[must_use]
    pub fn without_elements(&self) -> Self {
        self.with_elements(BTreeMap::new())
    }

    fn with_elements(&self, elements: BTreeMap<Key, Element>) -> Self {
        let (key, data) = (self.key.clone(), self.data.clone());
        Self { key, data, flags: self.flags, size: self.size, timeout: self.timeout, counter: self.counter, elements }
    }

    /// The elements to add and those to remove; `None` where an element would have to be changed in its place.
    fn changes_to(&self, wanted: &Self) -> Option<(BTreeMap<Key, Element>, BTreeMap<Key, Element>)> {
        let is_kept = |(key, element): (&Key, &Element)| wanted.elements.get(key).is_none_or(|other| other == element);
        self.elements.iter().all(is_kept).then_some(())?;
        let missing = |of: &Self, from: &Self| {
            let elements = of.elements.iter().filter(|(key, _)| !from.elements.contains_key(*key));
            elements.map(|(key, element)| (key.clone(), element.clone())).collect()
        };
        Some((missing(wanted, self), missing(self, wanted)))
    }
}
