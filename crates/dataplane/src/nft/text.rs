//! Tables and transactions in the language of `nft`, for people to read and to paste. Pure.
//!
//! `nft` 1.0.6 takes all of it. What we write to the kernel does not come from here.

use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

use serde::Serialize;

use super::operation::{Elements, Operation, RecordList, Transaction};
use super::table::{
    Base, Chain, ChainType, Data, DataType, Element, Hook, Policy, Rule, Set, SetFlags, Table, TableFamily, TableId,
};
use super::value::{AddressType, Type, Value};
use super::value::{Interval, Key};
use crate::types::{self, Prefix};

mod expressions;

const INDENT: &str = "\t";

/// The parts with a text between each two.
fn joined(parts: impl IntoIterator<Item: Display>, between: &str) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(between)
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

display_name!(AddressType, ChainType, TableFamily, Hook, Policy);

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
            several => write!(f, " devices = {{ {} }}", joined(several, ", "))?,
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
        if self.0.is_empty() { f.write_str("*") } else { f.write_str(&joined(&self.0, " . ")) }
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
            Data::Values(values) => f.write_str(&joined(values, " . ")),
        }
    }
}

fn element((key, held): (&Key, &Element)) -> String {
    let timeout = held.timeout.map_or_else(String::new, |timeout| format!(" timeout {}", Time(timeout)));
    let comment = held.comment.as_ref().map_or_else(String::new, |comment| format!(" comment \"{comment}\""));
    let data = held.data.as_ref().map_or_else(String::new, |data| format!(" : {data}"));
    format!("{key}{timeout}{comment}{data}")
}

impl Set {
    /// The lines between the braces.
    fn lines(&self) -> Vec<String> {
        let by_expression = self.has_numbers();
        let noun = if by_expression { "typeof" } else { "type" };
        let names = |types: &[Type]| {
            let name = |kind: &Type| if by_expression { kind.typeof_text() } else { kind.to_string() };
            joined(types.iter().map(name), " . ")
        };
        let key = names(&self.key);
        let mut lines = vec![match &self.data {
            None => format!("{noun} {key}"),
            Some(DataType::Verdict) => format!("{noun} {key} : verdict"),
            Some(DataType::Values(types)) => format!("{noun} {key} : {}", names(types)),
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
            lines.push(format!("flags {}", joined(flags, ",")));
        }
        if let Some(timeout) = self.timeout {
            lines.push(format!("timeout {}", Time(timeout)));
        }
        if self.counter {
            lines.push("counter".to_owned());
        }
        if !self.elements.is_empty() {
            lines.push(format!("elements = {{ {} }}", joined(self.elements.iter().map(element), ", ")));
        }
        lines
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&joined(&self.statements, " "))?;
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
        let sets = self.sets.iter().map(|(name, set)| set.block(name));
        let chains = self.chains.iter().map(|(name, chain)| chain.block(name));
        write!(f, "{}}}", joined(sets.chain(chains), "\n"))
    }
}

impl Set {
    fn block(&self, name: &str) -> String {
        block(if self.data.is_some() { "map" } else { "set" }, name, self.lines())
    }
}

impl Chain {
    fn block(&self, name: &str) -> String {
        let rules = self.rules.iter().map(Rule::to_string);
        block("chain", name, self.base.iter().map(Base::to_string).chain(rules))
    }
}

/// Lines in braces.
fn block(noun: &str, name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines = joined(lines.into_iter().map(|line| format!("{INDENT}{INDENT}{line}\n")), "");
    format!("{INDENT}{noun} {name} {{\n{lines}{INDENT}}}\n")
}

/// A set and entries of it.
fn entries(table: &TableId, set: &str, entries: impl Iterator<Item = String>) -> String {
    format!("element {table} {set} {{ {} }}", joined(entries, ", "))
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&entries(&self.table, &self.set, self.elements.iter().map(element)))
    }
}

impl Display for RecordList {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let records = self.records.iter().map(|record| record.to_element());
        f.write_str(&entries(&self.table, &self.set, records.map(|(key, held)| element((&key, &held)))))
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operation::AddTable(id) => write!(f, "add table {id}"),
            Operation::DeleteTable(id) => write!(f, "delete table {id}"),
            Operation::ReplaceTable(table) => write!(f, "add table {0}\ndelete table {0}\n{table}", table.id),
            Operation::AddSet { table, name, set } => {
                write!(f, "table {table} {{\n{}}}", set.block(name))
            }
            Operation::DeleteSet { table, name } => write!(f, "delete set {table} {name}"),
            Operation::AddChain { table, name, chain } => write!(f, "table {table} {{\n{}}}", chain.block(name)),
            Operation::FlushChain { table, name } => write!(f, "flush chain {table} {name}"),
            Operation::DeleteChain { table, name } => write!(f, "delete chain {table} {name}"),
            Operation::AddRule { table, chain, rule } => write!(f, "add rule {table} {chain} {rule}"),
            Operation::InsertRule { table, chain, rule } => write!(f, "insert rule {table} {chain} {rule}"),
            Operation::DeleteRule { table, chain, handle } => write!(f, "delete rule {table} {chain} handle {handle}"),
            Operation::AddElements(elements) => write!(f, "add {elements}"),
            Operation::DeleteElements(elements) => write!(f, "delete {elements}"),
            Operation::AddRecords(records) => write!(f, "add {records}"),
            Operation::DeleteRecords(records) => write!(f, "delete {records}"),
        }
    }
}

impl Display for Transaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&joined(&self.operations, "\n"))
    }
}
