//! Operations on the kernel's tables, and transactions of them, as values. Pure.

use std::collections::BTreeMap;

use super::records::Records;
use super::table::{Chain, Element, Rule, Set, SetFlags, Table, TableId};
use super::value::Key;

/// One operation on a table. The kernel applies several as one [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes an empty table; a table of that name stays as it is.
    AddTable(TableId),
    /// Removes a table with all that is in it.
    DeleteTable(TableId),
    /// Removes the table of that name, if there is one, and makes this one. Packets see either the old or the new.
    ReplaceTable(Table),
    /// Removes a chain that nothing jumps to, with its rules.
    DeleteChain {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Makes a set with its elements. A set of that name with the same definition stays and gets the elements as well.
    AddSet {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
        /// The set.
        set: Set,
    },
    /// Removes a set that no rule uses.
    DeleteSet {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Makes a chain with its rules. A chain of that name stays and gets the rules as well, behind its own.
    AddChain {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
        /// The chain.
        chain: Chain,
    },
    /// Removes all rules of a chain.
    FlushChain {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
    },
    /// Puts a rule at the end of a chain.
    AddRule {
        /// The table.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Puts a rule at the head of a chain.
    InsertRule {
        /// The table.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Removes one rule.
    DeleteRule {
        /// The table.
        table: TableId,
        /// The chain's name.
        chain: String,
        /// The rule's number, from [`super::RuleWithHandle`].
        handle: u64,
    },
    /// Adds elements. An element that exists with the same data is no error; with other data it is (`EEXIST`).
    AddElements(Elements),
    /// Removes elements. An element that does not exist is an error (`ENOENT`).
    DeleteElements(Elements),
    /// [`Operation::AddElements`] of elements that are held by their bytes.
    AddRecords(RecordList),
    /// [`Operation::DeleteElements`] of elements that are held by their bytes; their keys alone count.
    DeleteRecords(RecordList),
}

impl Operation {
    /// The table that the operation changes.
    pub fn table(&self) -> &TableId {
        match self {
            Operation::ReplaceTable(table) => &table.id,
            Operation::AddTable(table)
            | Operation::DeleteTable(table)
            | Operation::AddSet { table, .. }
            | Operation::DeleteSet { table, .. }
            | Operation::AddChain { table, .. }
            | Operation::FlushChain { table, .. }
            | Operation::DeleteChain { table, .. }
            | Operation::AddRule { table, .. }
            | Operation::InsertRule { table, .. }
            | Operation::DeleteRule { table, .. } => table,
            Operation::AddElements(elements) | Operation::DeleteElements(elements) => &elements.table,
            Operation::AddRecords(records) | Operation::DeleteRecords(records) => &records.table,
        }
    }

    /// The operations that give these elements, which are there, other data or comments. The kernel takes no element for one that
    /// is there with other data; as parts of one transaction no packet misses the elements in between.
    pub fn replace_elements(elements: Elements) -> [Self; 2] {
        [Self::DeleteElements(elements.clone()), Self::AddElements(elements)]
    }
}

/// Operations that the kernel applies in their order as one netlink batch: all of them or none. No packet sees a state
/// between two of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// True where each operation removes a table, a chain or a rule.
    pub fn is_removal(&self) -> bool {
        use Operation::{DeleteChain, DeleteRule, DeleteSet, DeleteTable};
        let is_removal =
            |one: &_| matches!(one, DeleteTable(_) | DeleteChain { .. } | DeleteRule { .. } | DeleteSet { .. });
        !self.operations.is_empty() && self.operations.iter().all(is_removal)
    }

    /// True where the transaction adds and removes elements of sets and changes nothing else.
    pub fn is_of_elements(&self) -> bool {
        use Operation::{AddElements, AddRecords, DeleteElements, DeleteRecords};
        let is_of_elements =
            |one: &_| matches!(one, AddElements(_) | DeleteElements(_) | AddRecords(_) | DeleteRecords(_));
        self.operations.iter().all(is_of_elements)
    }
}

impl From<Operation> for Transaction {
    fn from(operation: Operation) -> Self {
        Self { operations: vec![operation] }
    }
}

impl FromIterator<Operation> for Transaction {
    fn from_iter<T: IntoIterator<Item = Operation>>(operations: T) -> Self {
        Self { operations: operations.into_iter().collect() }
    }
}

/// Elements of one set, by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordList {
    /// The table.
    pub table: TableId,
    /// The set's name.
    pub set: String,
    /// The elements.
    pub records: Records,
}

/// Elements of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// The table.
    pub table: TableId,
    /// The set's name.
    pub set: String,
    /// The flags that the set has: ranges are written in another way than single values.
    pub flags: SetFlags,
    /// The elements by key.
    pub elements: BTreeMap<Key, Element>,
}
