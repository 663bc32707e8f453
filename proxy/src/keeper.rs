//! Keeps one table of the kernel as desired: full runs after a dump, and runs over dirty elements in between.
//!
//! The keys are elements. What the kernel has is desired but for the deviations, so no second copy of the elements is kept. Sets and chains
//! are one key, the table: where they differ, the table is made anew in one transaction.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dataplane::nft::{self, Action, Data, Elements, Operation, SetFlags, Subject, Table, TableChange, TableFilter, TableId};
use reconcile::{Deferred, DesiredHash, Domain, Engine, Keyed, ObjectKey, Report, RunKind};

use crate::model::PortKey;
use crate::ruleset::{Change, Element, Presence, Ruleset, SetName, Settings};
use crate::topology::Resolved;

/// An object of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The table with its sets and chains.
    Table(TableId),
    /// An element.
    Element(Element),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Table(id) => write!(f, "nftables table {} {}", id.family, id.name),
            Key::Element(Element { set, key }) => write!(f, "element {key} of nftables set {set}"),
        }
    }
}

impl ObjectKey for Key {
    fn kind(&self) -> &'static str {
        match self {
            Key::Table(_) => "table",
            Key::Element(_) => "element",
        }
    }

    fn remedy(&self) -> &'static str {
        "`nft monitor`"
    }

    fn is_incremental(&self) -> bool {
        matches!(self, Key::Element(_))
    }
}

/// A change of the table.
#[derive(Debug, Clone)]
pub enum Op {
    /// Makes the table anew.
    Replace(Box<Table>),
    /// Makes room for more: new sets, and the rules that use them.
    Extend(TableId, Vec<Operation>),
    /// Adds, changes or removes an element.
    Element {
        /// The table.
        table: TableId,
        /// The element.
        element: Element,
        /// The set's flags.
        flags: SetFlags,
        /// True where the element is there.
        is_there: bool,
        /// What the element should be.
        desired: Option<nft::Element>,
    },
}

impl Op {
    /// The operations, removals first.
    fn operations(&self) -> Vec<Operation> {
        match self {
            Op::Replace(table) => vec![Operation::ReplaceTable(Table::clone(table))],
            Op::Extend(_, operations) => operations.clone(),
            Op::Element { .. } => batch(std::slice::from_ref(self)),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        nft::Transaction { operations: self.operations() }.fmt(f)
    }
}

/// The operations of several ops as one list: what makes room, then all removals of elements, then all additions, set by set.
fn batch(ops: &[Op]) -> Vec<Operation> {
    type Sets = BTreeMap<(TableId, SetName), Elements>;
    let (mut operations, mut removals, mut additions) = (Vec::new(), Sets::new(), Sets::new());
    for op in ops {
        let Op::Element { table, element, flags, is_there, desired } = op else {
            operations.extend(op.operations());
            continue;
        };
        let put = |sets: &mut Sets, held| {
            let empty = || Elements { table: table.clone(), set: element.set.to_string(), flags: *flags, elements: BTreeMap::new() };
            let set = sets.entry((table.clone(), element.set)).or_insert_with(empty);
            set.elements.insert(element.key.clone(), held);
        };
        if *is_there {
            put(&mut removals, nft::Element::default());
        }
        if let Some(desired) = desired {
            put(&mut additions, desired.clone());
        }
    }
    operations.extend(removals.into_values().map(Operation::DeleteElements));
    operations.extend(additions.into_values().map(Operation::AddElements));
    operations
}

/// What the engine needs to know of ops.
#[derive(Debug, Clone, Copy)]
pub struct Rules;

impl Domain for Rules {
    type Key = Key;
    type Op = Op;
    type Error = nft::Error;
    type Conflict = std::convert::Infallible;

    fn keyed(&self, ops: &[Op]) -> Vec<Keyed<Key>> {
        let keyed = |op: &Op| {
            let key = match op {
                Op::Replace(table) => Key::Table(table.id.clone()),
                Op::Extend(table, _) => Key::Table(table.clone()),
                Op::Element { element, .. } => Key::Element(element.clone()),
            };
            Keyed { key, desired: DesiredHash::new() }
        };
        ops.iter().map(keyed).collect()
    }

    fn kind(op: &Op) -> &'static str {
        match op {
            Op::Replace(_) => "replace-table",
            Op::Extend(..) => "extend-table",
            Op::Element { desired: None, .. } => "delete-element",
            Op::Element { .. } => "add-element",
        }
    }

    fn is_removal(op: &Op) -> bool {
        matches!(op, Op::Element { desired: None, .. })
    }

    fn is_replacement(_: &Op) -> bool {
        false
    }

    fn is_essential(_: &Op) -> bool {
        true
    }

    fn is_done_despite(_: &Op, _: &nft::Error) -> bool {
        false
    }
}

/// The result of a run.
pub type RunReport = Report<Op, nft::Error, std::convert::Infallible>;

/// One table, and what is known of it in the kernel.
#[derive(Debug)]
pub struct Keeper {
    ruleset: Ruleset,
    engine: Engine<Key, Presence>,
    /// The sets of the table by name, with their flags.
    sets: BTreeMap<String, (SetName, SetFlags)>,
    /// The operations that make room for what has been added since the last run.
    extension: Vec<Operation>,
}
