//! Keeps one table of the kernel as desired: full runs after a dump, and runs over dirty elements in between.
//!
//! The keys are elements. What the kernel has is desired but for the deviations, so no second copy of the elements is kept. Sets and chains
//! are one key, the table: where they differ, the table is made anew in one transaction.

mod clients;
mod full;
mod transactions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dataplane::nft::{self, Action, Operation, SetFlags, Subject, Table, TableChange, TableFilter, TableId};
use dataplane::types::Family;
use reconcile::{DesiredHash, Domain, Engine, Keyed, ObjectKey, Report, RunKind};

use self::clients::Moves;
use self::transactions::{batch, carry_out};
use crate::model::PortKey;
use crate::problem::{Kind, Problem};
use crate::ruleset::{Element, Front, Presence, Ruleset, SetName, Settings, comment};
use crate::topology::Resolved;

/// Where more service ports change at once, everything is compared: that takes less memory than to know each change.
const MOST_PORTS: usize = 500;

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
    /// Makes the table anew, with all that is in it or without elements.
    Replace(TableId, Vec<Operation>),
    /// Adds so many elements to a table that is new.
    Fill(TableId, usize, Operation),
    /// Makes room for more: new sets, and the rules that use them.
    Extend(TableId, Vec<Operation>),
    /// Clients with affinity follow their endpoint, which has got another number or is gone.
    MoveClients(TableId, Vec<Operation>),
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
            Op::Replace(_, operations) | Op::Extend(_, operations) | Op::MoveClients(_, operations) => {
                operations.clone()
            }
            Op::Fill(_, _, operation) => vec![operation.clone()],
            Op::Element { .. } => batch([self].into_iter()),
        }
    }

    /// As many elements as the op changes, where they may be many.
    fn weight(&self) -> usize {
        if let Op::Fill(_, count, _) = self { *count } else { 1 }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Replace(TableId { family, name }, _) => write!(f, "replace table {family} {name}"),
            Op::Fill(TableId { family, name }, count, _) => write!(f, "add {count} elements to table {family} {name}"),
            _ => nft::Transaction { operations: self.operations() }.fmt(f),
        }
    }
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
                Op::Replace(table, _) | Op::Fill(table, ..) | Op::Extend(table, _) | Op::MoveClients(table, _) => {
                    Key::Table(table.clone())
                }
                Op::Element { element, .. } => Key::Element(element.clone()),
            };
            Keyed { key, desired: DesiredHash::new() }
        };
        ops.iter().map(keyed).collect()
    }

    fn kind(op: &Op) -> &'static str {
        match op {
            Op::Replace(..) => "replace-table",
            Op::Fill(..) => "fill-table",
            Op::Extend(..) => "extend-table",
            Op::MoveClients(..) => "move-clients",
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
    /// What makes room for what has been added since the last run.
    extension: Vec<Operation>,
}

impl Keeper {
    /// The keeper of a table that is not in the kernel yet, or is from an earlier process.
    pub fn new(settings: Settings) -> Self {
        let ruleset = Ruleset::new(settings);
        Self { ruleset, engine: Engine::default(), sets: BTreeMap::new(), extension: Vec::new() }
    }

    /// The family of the table.
    pub fn family(&self) -> Family {
        self.ruleset.settings().family
    }

    /// The desired table.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// Takes other settings. The next run is a full one.
    pub fn set_settings(&mut self, settings: Settings) {
        self.ruleset.reset(settings);
        self.engine.require_full();
    }

    /// The numbers that endpoints have in the kernel's table stay theirs. To be called before the first update.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub fn adopt(&mut self, socket: &mut nft::Socket) -> Result<(), nft::Error> {
        let id = self.ruleset.id();
        let Some(table) = socket.read_table_without_elements(id.family, &id.name)? else { return Ok(()) };
        self.ruleset.adopt(&table, |set, definition| socket.read_records(&id, set, definition))
    }

    /// The destinations of Services that were deleted while no process ran. To be called after the first update, which must be whole.
    pub fn take_gone(&mut self) -> Vec<Front> {
        self.ruleset.take_gone()
    }

    /// Service ports have changed.
    pub fn update(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>) {
        let before = Arc::clone(self.ruleset.skeleton());
        let elements = if self.engine.is_incremental() && ports.len() <= MOST_PORTS {
            self.ruleset.update(ports).elements
        } else {
            self.ruleset.load(ports);
            self.engine.require_full();
            BTreeMap::new()
        };
        let after = self.ruleset.skeleton();
        if !Arc::ptr_eq(&before, after) && before != *after {
            self.extension.extend(extension(&before, after));
            self.sets = self.ruleset.sets();
        }
        for (element, (former, desired)) in elements {
            self.engine.change(Key::Element(element), former, &desired);
        }
    }

    /// The notifications that the keeper wants.
    pub fn filter(&self, port: u32) -> (TableId, TableFilter) {
        (self.ruleset.id(), TableFilter::of(self.ruleset.skeleton()).without_own(port))
    }

    /// Takes a notification about the table.
    pub fn notify(&mut self, change: &TableChange) {
        let Subject::Elements { set, elements } = &change.subject else {
            self.engine.require_resync();
            return;
        };
        let Some((name, flags)) = self.sets.get(set).copied() else {
            self.engine.require_resync();
            return;
        };
        if flags.has(SetFlags::DYNAMIC) {
            return;
        }
        let Some(elements) = elements else {
            self.engine.require_resync();
            return;
        };
        for (key, held) in elements {
            let element = Element { set: name, key: key.clone() };
            let observed = (change.action == Action::New).then(|| held.data.clone());
            let desired = self.ruleset.desired(&element);
            self.engine.observe(Key::Element(element), observed, &desired, true);
        }
    }

    /// Notifications were lost.
    pub fn lose(&mut self) {
        self.engine.require_resync();
    }

    /// Everything is compared in the next run.
    pub fn require_full(&mut self) {
        self.engine.require_full();
    }

    /// The problem that the kernel does not have the table as it should be.
    pub fn unprogrammed(&self) -> Problem {
        let TableId { family, name } = self.ruleset.id();
        let detail = "is not as it should be: the kernel refuses a change";
        Problem::new(Kind::NotProgrammed, format!("table {family} {name}"), detail)
            .with_remedy("the log has the kernel's reason; the proxy tries again")
    }

    /// True where there is something to do.
    pub fn is_dirty(&self) -> bool {
        self.engine.is_dirty() || !self.engine.is_incremental()
    }

    /// True where the next run compares everything.
    pub fn needs_full(&self) -> bool {
        self.engine.needs_full() || !self.engine.is_incremental()
    }

    /// When a repair is due that waits.
    pub fn next_repair(&self) -> Option<Duration> {
        self.engine.next_repair()
    }

    /// Makes the kernel's table as desired, with a dump only where the dirty elements do not suffice.
    ///
    /// # Errors
    /// Where the table cannot be read. What the kernel refuses is in the report.
    pub fn run(&mut self, socket: &mut nft::Socket, now: Duration) -> Result<RunReport, nft::Error> {
        if !self.needs_full() {
            let report = self.run_over_dirty(socket, now);
            if report.as_ref().is_ok_and(RunReport::is_clean) {
                return report;
            }
            self.engine.give_up();
            report?;
        }
        self.run_full(socket, now)
    }

    fn run_over_dirty(&mut self, socket: &mut nft::Socket, now: Duration) -> Result<RunReport, nft::Error> {
        let extension = std::mem::take(&mut self.extension);
        let mut ops: Vec<Op> = Vec::new();
        if !extension.is_empty() {
            ops.push(Op::Extend(self.ruleset.id(), extension));
        }
        let keys = self.engine.take_keys().unwrap_or_default();
        let deviations = self.engine.deviations();
        let elements = keys.iter().filter_map(|key| match (key, deviations.get(key)) {
            (Key::Element(element), Some(observed)) => Some((element.clone(), observed.clone())),
            _ => None,
        });
        ops.extend(self.ops(elements.collect(), socket)?);
        let kind = RunKind { repairs: false, full: false };
        let (report, deferred) = self
            .engine
            .run(&Rules, ops, Vec::new(), (kind, now), |ops| carry_out(|operations| socket.apply(operations), ops));
        // Own changes are not notified.
        if report.is_clean() && deferred.ops.is_empty() {
            for key in &keys {
                self.engine.settle(key);
            }
        }
        Ok(report)
    }

    /// The ops that make elements as desired.
    fn ops(&self, elements: Vec<(Element, Presence)>, socket: &mut nft::Socket) -> Result<Vec<Op>, nft::Error> {
        let moves = self.moves(&elements);
        let mut ops = Vec::new();
        if !moves.is_empty() {
            let (id, skeleton) = (self.ruleset.id(), Arc::clone(self.ruleset.skeleton()));
            let read = |set: &str| match skeleton.sets.get(set) {
                Some(definition) => socket.read_elements(&id, set, definition),
                None => Ok(BTreeMap::new()),
            };
            ops.push(Op::MoveClients(id.clone(), clients::operations(&id, &moves, read)?));
        }
        ops.extend(elements.into_iter().map(|(element, observed)| self.op(element, &observed)));
        Ok(ops)
    }

    fn moves(&self, elements: &[(Element, Presence)]) -> Moves {
        let changed = elements.iter().map(|(element, observed)| (element, observed));
        Moves::of(changed, |element| self.ruleset.drawn(element))
    }

    fn op(&self, element: Element, observed: &Presence) -> Op {
        let flags = self.sets.get(&element.set.to_string()).map(|(_, flags)| *flags).unwrap_or_default();
        let comment = self.comment(&element);
        let desired = self.ruleset.desired(&element);
        let desired = desired.map(|data| nft::Element { data, comment, ..nft::Element::default() });
        Op::Element { table: self.ruleset.id(), element, flags, is_there: observed.is_some(), desired }
    }

    /// Whose an element is.
    fn comment(&self, element: &Element) -> Option<String> {
        self.ruleset.owner(element).map(|owner| comment(&owner.name))
    }
}

/// The operations that add the sets, chains and rules of `after` to those of `before`.
fn extension(before: &Table, after: &Table) -> Vec<Operation> {
    let table = &after.id;
    let new = |name: &String| !before.sets.contains_key(name);
    let sets = after.sets.iter().filter(|(name, _)| new(name)).map(|(name, set)| Operation::AddSet {
        table: table.clone(),
        name: name.clone(),
        set: set.clone(),
    });
    // Chains first, all of them: the rules of one may lead to another.
    let is_new = |name: &String| !before.chains.contains_key(name);
    let chains = after.chains.iter().filter(|(name, _)| is_new(name)).map(|(name, chain)| Operation::AddChain {
        table: table.clone(),
        name: name.clone(),
        chain: nft::Chain { base: chain.base.clone(), rules: Vec::new() },
    });
    let changed = after.chains.iter().filter(|(name, chain)| before.chains.get(*name) != Some(chain));
    let rules = changed.flat_map(|(name, chain)| {
        let flush = Operation::FlushChain { table: table.clone(), name: name.clone() };
        let rules = chain.rules.iter().map(|rule| Operation::AddRule {
            table: table.clone(),
            chain: name.clone(),
            rule: rule.clone(),
        });
        [flush].into_iter().chain(rules).collect::<Vec<_>>()
    });
    sets.chain(chains).chain(rules).collect()
}

#[cfg(test)]
mod tests;
