//! What can be done to the kernel's tables, as values. Pure.

use std::collections::BTreeMap;

use super::table::{Chain, Element, Key, Rule, Set, SetFlags, Table, TableId};

/// One change. Several are applied together, in order, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes an empty table, or leaves the one that is there.
    AddTable(TableId),
    /// Removes a table with all that is in it.
    DeleteTable(TableId),
    /// Removes the table of that name, if there is one, and makes this one. Packets see either the old or the new.
    ReplaceTable(Table),
    /// Makes a chain, or leaves the one that is there, and appends its rules.
    AddChain {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
        /// Its hook and rules.
        chain: Chain,
    },
    /// Removes all rules of a chain.
    FlushChain {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Removes a chain that nothing jumps to, with its rules.
    DeleteChain {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Makes a set or map with its elements.
    AddSet {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
        /// Its type and elements.
        set: Set,
    },
    /// Removes a set that no rule uses.
    DeleteSet {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Puts a rule at the end of a chain.
    AddRule {
        /// Where.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// What.
        rule: Rule,
    },
    /// Puts a rule at the head of a chain.
    InsertRule {
        /// Where.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// What.
        rule: Rule,
    },
    /// Removes one rule.
    DeleteRule {
        /// Where.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// The rule's number, from [`super::RuleWithHandle`].
        handle: u64,
    },
    /// Adds elements. One that is there with the same data stays; with other data it is an error (`EEXIST`).
    AddElements(Elements),
    /// Removes elements. One that is not there is an error (`ENOENT`).
    DeleteElements(Elements),
}

/// Elements of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// Where.
    pub table: TableId,
    /// The set's name.
    pub set: String,
    /// The flags that the set has: ranges are written in another way than single values.
    pub flags: SetFlags,
    /// The elements by key.
    pub elements: BTreeMap<Key, Element>,
}
