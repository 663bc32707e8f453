//! Lookups in sets. Pure.

use super::super::abi::lookup;
use super::super::attributes::Attributes;
use super::super::expression::{Comparison, Expression, Statement};
use super::super::writer::Writer;
use super::{Load, Reader, expression, load, register, word};

/// How many registers an expression fills.
fn words(part: &Expression) -> u32 {
    u32::try_from(part.kind().bytes().div_ceil(4)).unwrap_or(0)
}

pub(super) fn write(writer: &mut Writer, key: &[Expression], op: Comparison, set: &str) {
    let mut word = 0;
    for part in key {
        load::write(writer, part, word);
        word += words(part);
    }
    expression(writer, "lookup", |writer| {
        writer.text(lookup::SET, set);
        writer.number(lookup::SREG, register(0));
        if op == Comparison::Ne {
            writer.number(lookup::FLAGS, op as u32);
        }
    });
}

impl Reader {
    pub(super) fn lookup(&mut self, attributes: Attributes<'_>) -> Option<Statement> {
        attributes.get(lookup::DREG).is_none().then_some(())?;
        let mut next = word(attributes.number(lookup::SREG)?)?;
        let mut key = Vec::new();
        self.loads.sort_by_key(|load| load.word);
        for Load { word, loaded, prefix } in &self.loads {
            let is_next = *word == next && prefix.is_none() && !matches!(loaded, Expression::Value(_));
            is_next.then_some(())?;
            next += words(loaded);
            key.push(loaded.clone());
        }
        (!key.is_empty()).then_some(())?;
        let op = Comparison::from_number(attributes.number(lookup::FLAGS).unwrap_or(0))?;
        Some(Statement::Lookup { key, op, set: attributes.text(lookup::SET)? })
    }
}
