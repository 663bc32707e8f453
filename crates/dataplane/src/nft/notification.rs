//! The kernel's notifications of changes to the ruleset. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::abi::{chain, element_list, generation, message, rule, set};
use super::elements;
use super::read::RawMessage;
use super::table::{Element, Set, Table, TableId};
use super::value::Key;

/// Whether something came or went. A change of something that is there comes as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The object is new, or it has changed.
    New,
    /// The object is gone.
    Deleted,
}

/// The object that has changed in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The table itself.
    Table,
    /// The chain of this name.
    Chain(String),
    /// A rule of the chain of this name.
    Rule(String),
    /// The set of this name.
    Set(String),
    /// Elements of one set.
    Elements {
        /// The set's name.
        set: String,
        /// The elements by key: as they are now, or as they were last. `None` where the filter does not define the set, or
        /// where the set holds ranges of one type: of such a range the kernel sends the two ends apart. Then the set has to be
        /// read again.
        elements: Option<BTreeMap<Key, Element>>,
    },
    /// An object or a flow table, which are not modelled.
    Other,
}

/// A change of one object. Several elements of one set that come or go one after the other may be one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The table.
    pub table: TableId,
    /// The object in the table.
    pub subject: Subject,
    /// Whether the object came or went.
    pub action: Action,
    /// The port of the socket that asked for the change, as [`super::Socket::port`] gives it.
    pub origin: u32,
}

impl TableChange {
    /// Adds a change that follows this one to it; gives it back where the two are about different objects.
    pub(crate) fn merge(&mut self, next: Self) -> Option<Self> {
        if *self == next {
            return None;
        }
        let place = |change: &Self| (change.action, change.origin);
        let is_same = place(self) == place(&next) && self.table == next.table;
        let Subject::Elements { set, elements: Some(elements) } = &mut self.subject else { return Some(next) };
        match next {
            TableChange { subject: Subject::Elements { set: other, elements: Some(more) }, .. }
                if is_same && *set == other =>
            {
                elements.extend(more);
                None
            }
            next => Some(next),
        }
    }
}

/// The notifications about one table that a subscriber wants; all by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableFilter {
    /// Where given, only the table itself, these chains and their rules are wanted.
    pub chains: Option<BTreeSet<String>>,
    /// The definitions of the sets whose elements are wanted with their keys. Elements in these definitions do not count.
    /// Of the elements of dynamic sets there are no notifications.
    pub sets: BTreeMap<String, Set>,
    /// The port of the subscriber's own socket ([`super::Socket::port`]), whose changes are not wanted.
    pub own_port: Option<u32>,
}

impl TableFilter {
    /// Everything in a table that has these sets.
    pub fn of(table: &Table) -> Self {
        let definitions = table.sets.iter().map(|(name, set)| (name.clone(), set.without_elements()));
        Self { sets: definitions.collect(), ..Self::default() }
    }

    /// These chains and their rules, and the table itself.
    pub fn of_chains<'c>(chains: impl IntoIterator<Item = &'c str>) -> Self {
        Self { chains: Some(chains.into_iter().map(str::to_owned).collect()), ..Self::default() }
    }

    /// The same without the changes that the socket at this port makes.
    #[must_use]
    pub fn without_own(mut self, port: u32) -> Self {
        self.own_port = Some(port);
        self
    }
}

impl RawMessage<'_> {
    /// The generation that a transaction has made, where this is its end.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.attributes.number(generation::ID).filter(|_| self.kind == Some(message::NEWGEN))
    }

    /// The change of an object in `table`, which the message is about; `None` where the filter does not want it.
    pub(crate) fn change(&self, table: &TableId, filter: &TableFilter) -> Option<TableChange> {
        use Action::{Deleted, New};
        if filter.own_port == Some(self.origin) {
            return None;
        }
        let text = |kind| self.attributes.text(kind);
        let is_wanted = |chain: &String| filter.chains.as_ref().is_none_or(|chains| chains.contains(chain));
        let wanted_chain = |kind| text(kind).filter(is_wanted);
        let (subject, action) = match self.kind? {
            message::NEWTABLE => (Subject::Table, New),
            message::DELTABLE => (Subject::Table, Deleted),
            message::NEWCHAIN => (Subject::Chain(wanted_chain(chain::NAME)?), New),
            message::DELCHAIN => (Subject::Chain(wanted_chain(chain::NAME)?), Deleted),
            message::NEWRULE => (Subject::Rule(wanted_chain(rule::CHAIN)?), New),
            message::DELRULE => (Subject::Rule(wanted_chain(rule::CHAIN)?), Deleted),
            _ if filter.chains.is_some() => return None,
            message::NEWSET => (Subject::Set(text(set::NAME)?), New),
            message::DELSET => (Subject::Set(text(set::NAME)?), Deleted),
            // Rules fill dynamic sets: what they hold is nobody's desired state.
            message::NEWSETELEM | message::DELSETELEM if self.is_of_dynamic_set(filter) => return None,
            message::NEWSETELEM => (self.elements(filter)?, New),
            message::DELSETELEM => (self.elements(filter)?, Deleted),
            message::NEWOBJ | message::NEWFLOWTABLE => (Subject::Other, New),
            message::DELOBJ | message::DELFLOWTABLE => (Subject::Other, Deleted),
            _ => return None,
        };
        Some(TableChange { table: table.clone(), subject, action, origin: self.origin })
    }

    fn is_of_dynamic_set(&self, filter: &TableFilter) -> bool {
        let set = self.attributes.text(element_list::SET);
        set.and_then(|set| filter.sets.get(&set)).is_some_and(Set::is_dynamic)
    }

    fn elements(&self, filter: &TableFilter) -> Option<Subject> {
        let set = self.attributes.text(element_list::SET)?;
        let list = self.attributes.nest(element_list::ELEMENTS);
        let elements = filter.sets.get(&set).and_then(|set| elements::single_elements(set, elements::read(list)));
        Some(Subject::Elements { set, elements })
    }
}
