//! Tables and transactions in the language of `nft`, for people to read and to paste. Pure.
//!
//! `nft` 1.0.6 takes all of it. What we write to the kernel does not come from here.

use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

use serde::Serialize;

use super::expression::{AddressType, Value};
use super::operation::{Elements, Operation, Transaction};
use super::table::{
    Base, Chain, ChainType, Data, DataType, Element, Family, Hook, Interval, Key, Policy, Rule, Set, SetFlags, Table,
    TableId,
};
use crate::types::{self, Prefix};

mod expressions;

const INDENT: &str = "\t";

/// Prints its parts with a text between each two.
struct Joined<I>(I, &'static str);

impl<I: Clone + IntoIterator<Item: Display>> Display for Joined<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, part) in self.0.clone().into_iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

/// Prints variants by the names that serde has for them.
macro_rules! display_name {
    ($($kind:ty),+) => {
        $(impl Display for $kind {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                self.serialize(f)
            }
        })+
    };
}

display_name!(AddressType, ChainType, Family, Hook, Policy);

impl Display for TableId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "type {} hook {}", self.kind, self.hook)?;
        match self.devices.as_slice() {
            [] => {}
            [one] => write!(f, " device \"{one}\"")?,
            several => write!(f, " devices = {{ {} }}", Joined(several, ", "))?,
        }
        write!(f, " priority {}; policy {};", self.priority, self.policy)
    }
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.prefix(), self.first == self.last) {
            (_, true) => self.first.fmt(f),
            (Some(prefix), _) => prefix.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Interval {
    /// The interval as a prefix, where it is one.
    fn prefix(&self) -> Option<Prefix> {
        let (Value::Address(first), Value::Address(last)) = (&self.first, &self.last) else { return None };
        let differing = types::number(*first) ^ types::number(*last);
        let free = u8::try_from(u128::BITS - differing.leading_zeros()).ok()?;
        let prefix = Prefix::new(*first, types::Family::of(*first).bits().checked_sub(free)?)?;
        (prefix.first() == types::number(*first) && prefix.last() == types::number(*last)).then_some(prefix)
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.is_empty() { f.write_str("*") } else { Joined(&self.0, " . ").fmt(f) }
    }
}

/// A time with its units: `3h`, `1m30s`.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        let mut left = self.0.as_millis();
        for (length, unit) in UNITS {
            if left >= length {
                write!(f, "{}{unit}", left / length)?;
            }
            left %= length;
        }
        if self.0.as_millis() == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

impl Display for Data {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Data::Verdict(verdict) => verdict.fmt(f),
            Data::Values(values) => Joined(values, " . ").fmt(f),
        }
    }
}

/// A set's elements.
struct Entry<'e>((&'e Key, &'e Element));

impl Display for Entry<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self((key, element)) = self;
        key.fmt(f)?;
        if let Some(timeout) = element.timeout {
            write!(f, " timeout {}", Time(timeout))?;
        }
        match &element.data {
            Some(data) => write!(f, " : {data}"),
            None => Ok(()),
        }
    }
}

impl Set {
    /// `set`, or `map` where it maps.
    fn noun(&self) -> &'static str {
        if self.data.is_some() { "map" } else { "set" }
    }

    /// The lines between the braces.
    fn lines(&self) -> Vec<String> {
        let key = Joined(&self.key, " . ");
        let mut lines = vec![match &self.data {
            None => format!("type {key}"),
            Some(DataType::Verdict) => format!("type {key} : verdict"),
            Some(DataType::Values(types)) => format!("type {key} : {}", Joined(types, " . ")),
        }];
        if let Some(size) = self.size {
            lines.push(format!("size {size}"));
        }
        let flags = [
            (SetFlags::CONSTANT, "constant"),
            (SetFlags::INTERVAL, "interval"),
            (SetFlags::TIMEOUT, "timeout"),
            (SetFlags::DYNAMIC, "dynamic"),
        ];
        let flags: Vec<_> = flags.iter().filter(|(flag, _)| self.flags.has(*flag)).map(|(_, name)| name).collect();
        if !flags.is_empty() {
            lines.push(format!("flags {}", Joined(flags, ",")));
        }
        if let Some(timeout) = self.timeout {
            lines.push(format!("timeout {}", Time(timeout)));
        }
        if !self.elements.is_empty() {
            lines.push(format!("elements = {{ {} }}", Joined(self.elements.iter().map(Entry), ", ")));
        }
        lines
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Joined(&self.statements, " ").fmt(f)?;
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "table {} {{", self.id)?;
        if let Some(comment) = &self.comment {
            writeln!(f, "{INDENT}comment \"{comment}\"")?;
        }
        if self.dormant {
            writeln!(f, "{INDENT}flags dormant")?;
        }
        for (index, (name, set)) in self.sets.iter().enumerate() {
            gap(f, index > 0)?;
            writeln!(f, "{INDENT}{} {name} {{", set.noun())?;
            set.lines().iter().try_for_each(|line| writeln!(f, "{INDENT}{INDENT}{line}"))?;
            writeln!(f, "{INDENT}}}")?;
        }
        for (index, (name, chain)) in self.chains.iter().enumerate() {
            gap(f, index > 0 || !self.sets.is_empty())?;
            writeln!(f, "{INDENT}chain {name} {{")?;
            chain.base.iter().try_for_each(|base| writeln!(f, "{INDENT}{INDENT}{base}"))?;
            chain.rules.iter().try_for_each(|rule| writeln!(f, "{INDENT}{INDENT}{rule}"))?;
            writeln!(f, "{INDENT}}}")?;
        }
        f.write_str("}")
    }
}

/// An empty line between two blocks.
fn gap(f: &mut Formatter<'_>, wanted: bool) -> Result {
    if wanted { writeln!(f) } else { Ok(()) }
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let entries = Joined(self.elements.iter().map(Entry), ", ");
        write!(f, "element {} {} {{ {entries} }}", self.table, self.set)
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operation::AddTable(id) => write!(f, "add table {id}"),
            Operation::DeleteTable(id) => write!(f, "delete table {id}"),
            Operation::ReplaceTable(table) => write!(f, "add table {0}\ndelete table {0}\n{table}", table.id),
            Operation::AddChain { table, name, chain } => add_chain(f, table, name, chain),
            Operation::FlushChain { table, name } => write!(f, "flush chain {table} {name}"),
            Operation::DeleteChain { table, name } => write!(f, "delete chain {table} {name}"),
            Operation::AddSet { table, name, set } => {
                write!(f, "add {} {table} {name} {{ {}; }}", set.noun(), Joined(set.lines(), "; "))
            }
            Operation::DeleteSet { table, name } => write!(f, "delete set {table} {name}"),
            Operation::AddRule { table, chain, rule } => write!(f, "add rule {table} {chain} {rule}"),
            Operation::InsertRule { table, chain, rule } => write!(f, "insert rule {table} {chain} {rule}"),
            Operation::DeleteRule { table, chain, handle } => write!(f, "delete rule {table} {chain} handle {handle}"),
            Operation::AddElements(elements) => write!(f, "add {elements}"),
            Operation::DeleteElements(elements) => write!(f, "delete {elements}"),
        }
    }
}

impl Display for Transaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Joined(&self.operations, "\n").fmt(f)
    }
}

fn add_chain(f: &mut Formatter<'_>, table: &TableId, name: &str, chain: &Chain) -> Result {
    write!(f, "add chain {table} {name}")?;
    chain.base.iter().try_for_each(|base| write!(f, " {{ {base} }}"))?;
    chain.rules.iter().try_for_each(|rule| write!(f, "\nadd rule {table} {name} {rule}"))
}
