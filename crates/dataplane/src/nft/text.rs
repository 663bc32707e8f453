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

fn element((key, Element { data, timeout }): (&Key, &Element)) -> String {
    let timeout = timeout.map_or_else(String::new, |timeout| format!(" timeout {}", Time(timeout)));
    let data = data.as_ref().map_or_else(String::new, |data| format!(" : {data}"));
    format!("{key}{timeout}{data}")
}

impl Set {
    /// The lines between the braces.
    fn lines(&self) -> Vec<String> {
        let key = joined(&self.key, " . ");
        let mut lines = vec![match &self.data {
            None => format!("type {key}"),
            Some(DataType::Verdict) => format!("type {key} : verdict"),
            Some(DataType::Values(types)) => format!("type {key} : {}", joined(types, " . ")),
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
        let sets = self.sets.iter().map(|(name, set)| {
            let noun = if set.data.is_some() { "map" } else { "set" };
            block(noun, name, set.lines())
        });
        let chains = self.chains.iter().map(|(name, Chain { base, rules })| {
            let rules = rules.iter().map(Rule::to_string);
            block("chain", name, base.iter().map(Base::to_string).chain(rules))
        });
        write!(f, "{}}}", joined(sets.chain(chains), "\n"))
    }
}

/// Lines in braces.
fn block(noun: &str, name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines = joined(lines.into_iter().map(|line| format!("{INDENT}{INDENT}{line}\n")), "");
    format!("{INDENT}{noun} {name} {{\n{lines}{INDENT}}}\n")
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let entries = joined(self.elements.iter().map(element), ", ");
        write!(f, "element {} {} {{ {entries} }}", self.table, self.set)
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operation::AddTable(id) => write!(f, "add table {id}"),
            Operation::DeleteTable(id) => write!(f, "delete table {id}"),
            Operation::ReplaceTable(table) => write!(f, "add table {0}\ndelete table {0}\n{table}", table.id),
            Operation::DeleteChain { table, name } => write!(f, "delete chain {table} {name}"),
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
        f.write_str(&joined(&self.operations, "\n"))
    }
}
