//! Lookups in sets and maps, and changes of dynamic sets. Pure.

use super::super::abi::{dynset, lookup};
use super::super::attributes::Attributes;
use super::super::expression::{Comparison, DynamicAction, Expression, MapLookup, Statement, VerdictMap};
use super::super::source::LOOKUP;
use super::super::writer::Writer;
use super::{Load, REGISTER_VERDICT, Reader, expression, load, register, word};

/// How many registers an expression fills.
fn words(part: &Expression) -> u32 {
    u32::try_from(part.kind().bytes().div_ceil(4)).unwrap_or(0)
}

/// Loads a key from a register on, and gives the first register behind the key.
fn write_key(writer: &mut Writer, key: &[Expression], start: u32) -> u32 {
    key.iter().fold(start, |word, part| {
        load::write(writer, part, word);
        word + words(part)
    })
}

pub(super) fn write(writer: &mut Writer, key: &[Expression], op: Comparison, set: &str) {
    write_key(writer, key, 0);
    expression(writer, LOOKUP, |writer| {
        writer.text(lookup::SET, set);
        writer.number(lookup::SREG, register(0));
        if op == Comparison::Ne {
            writer.number(lookup::FLAGS, op as u32);
        }
    });
}

/// Writes a lookup in a map of verdicts. `id` is the number that an anonymous map has in its batch.
pub(super) fn write_verdict(writer: &mut Writer, key: &[Expression], map: &str, id: Option<u32>) {
    write_key(writer, key, 0);
    expression(writer, LOOKUP, |writer| {
        writer.text(lookup::SET, map);
        writer.number(lookup::SREG, register(0));
        writer.number(lookup::DREG, REGISTER_VERDICT);
        if let Some(id) = id {
            writer.number(lookup::SET_ID, id);
        }
    });
}

/// Writes a lookup whose data goes to the first register on.
pub(super) fn write_map(writer: &mut Writer, MapLookup { key, map }: &MapLookup) {
    write_key(writer, key, 0);
    expression(writer, LOOKUP, |writer| {
        writer.text(lookup::SET, map);
        writer.number(lookup::SREG, register(0));
        writer.number(lookup::DREG, register(0));
    });
}

/// Writes a change of a dynamic set: the statement is [`Statement::Dynamic`].
pub(super) fn write_dynamic(writer: &mut Writer, statement: &Statement) {
    let Statement::Dynamic { action, set, key, data, timeout } = statement else { return };
    let start = write_key(writer, key, 0);
    write_key(writer, data, start);
    expression(writer, "dynset", |writer| {
        writer.text(dynset::SET, set);
        writer.number(dynset::OP, *action as u32);
        writer.number(dynset::SREG_KEY, register(0));
        if !data.is_empty() {
            writer.number(dynset::SREG_DATA, register(start));
        }
        if let Some(timeout) = timeout {
            writer.milliseconds(dynset::TIMEOUT, *timeout);
        }
    });
}

impl Reader {
    pub(super) fn lookup(&mut self, attributes: Attributes<'_>) -> Option<Statement> {
        let key = self.whole_key(attributes.number(lookup::SREG)?)?;
        let op = Comparison::from_number(attributes.number(lookup::FLAGS).unwrap_or(0))?;
        let set = attributes.text(lookup::SET)?;
        match (attributes.number(lookup::DREG), op) {
            (None, op) => Some(Statement::Lookup { key, op, set }),
            (Some(_), Comparison::Eq) => Some(Statement::VerdictFrom { key, map: VerdictMap::Named(set) }),
            (Some(_), Comparison::Ne) => None,
        }
    }

    /// Takes what was loaded for the key of a map, and in its place keeps what the map holds.
    pub(super) fn load_from_map(&mut self, attributes: Attributes<'_>) -> Option<()> {
        (attributes.number(lookup::FLAGS).unwrap_or(0) == 0).then_some(())?;
        let key = self.whole_key(attributes.number(lookup::SREG)?)?;
        let loaded = Expression::MarkFrom(MapLookup { key, map: attributes.text(lookup::SET)? });
        self.loads = vec![Load { word: word(attributes.number(lookup::DREG)?)?, loaded, prefix: None }];
        Some(())
    }

    pub(super) fn dynamic(&mut self, attributes: Attributes<'_>) -> Option<Statement> {
        let has_expressions = [dynset::EXPR, dynset::EXPRESSIONS].iter().any(|kind| attributes.get(*kind).is_some());
        (!has_expressions).then_some(())?;
        let data_start = match attributes.number(dynset::SREG_DATA) {
            Some(register) => Some(word(register)?),
            None => None,
        };
        self.loads.sort_by_key(|load| load.word);
        let key_length = self.loads.iter().take_while(|load| data_start.is_none_or(|start| load.word < start)).count();
        let (key, data) = self.loads.split_at(key_length);
        let action = attributes.number(dynset::OP)?;
        Some(Statement::Dynamic {
            action: DynamicAction::ALL.into_iter().find(|known| *known as u32 == action)?,
            set: attributes.text(dynset::SET)?,
            key: concatenated(key, word(attributes.number(dynset::SREG_KEY)?)?)?,
            data: data_start.map_or(Some(Vec::new()), |start| concatenated(data, start))?,
            timeout: attributes.milliseconds(dynset::TIMEOUT),
        })
    }

    /// All that was loaded, as a key from this register on.
    fn whole_key(&mut self, start: u32) -> Option<Vec<Expression>> {
        self.loads.sort_by_key(|load| load.word);
        concatenated(&self.loads, word(start)?)
    }
}

/// What was loaded, where it is of packets and fills the registers from `start` on without gaps.
fn concatenated(loads: &[Load], start: u32) -> Option<Vec<Expression>> {
    let mut next = start;
    let mut parts = Vec::new();
    for Load { word, loaded, prefix } in loads {
        let is_next = *word == next && prefix.is_none() && loaded.is_read();
        is_next.then_some(())?;
        next += words(loaded);
        parts.push(loaded.clone());
    }
    (!parts.is_empty()).then_some(parts)
}

impl DynamicAction {
    const ALL: [DynamicAction; 3] = [DynamicAction::Add, DynamicAction::Update, DynamicAction::Delete];
}

impl Expression {
    /// True for what can be a part of a key: neither constant nor looked up.
    pub(super) fn is_read(&self) -> bool {
        !matches!(self, Expression::Value(_) | Expression::MarkFrom(_))
    }
}
