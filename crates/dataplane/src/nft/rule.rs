//! Rules as the kernel's expressions, both ways. Pure.
//!
//! Values travel in registers of four bytes each. A statement loads what it needs from the first register on, and none uses what
//! another one loaded. The reader keeps loads until a statement uses them. What is not understood becomes opaque, together with
//! the loads before it, so that nothing of a foreign rule is lost or taken for something else.
//!
//! To add something that is read from a packet: a variant of [`Expression`], its row and its place in the list in `source.rs`. To add a
//! statement: a variant of [`Statement`], its text, what is wrong with it in `check.rs`, and here how it is written and read.

use super::abi::{self, DREG, REGISTER_VERDICT, immediate, lookup as lookup_attribute, masq, meta, meta_key};
use super::attributes::Attributes;
use super::expression::{Comparison, Expression, NatFlags, Statement, Verdict, VerdictMap};
use super::source::{IMMEDIATE, LOOKUP};
use super::table::TableFamily;
use super::value::{Type, Value};
use super::writer::Writer;
use crate::types;

mod check;
mod compare;
mod load;
mod lookup;
mod translate;

pub(super) use check::check;
use load::Load;

/// The name of a map of a rule's own; the kernel puts a number into it.
pub(super) const ANONYMOUS_MAP: &str = "__map%d";

/// Writes the statements of a rule in a table of `family`. `maps` are the numbers that the rule's anonymous maps have in the batch.
pub(super) fn write_all(writer: &mut Writer, family: TableFamily, statements: &[Statement], maps: &[u32]) {
    let mut maps = maps.iter().copied();
    for statement in statements {
        match statement {
            Statement::VerdictFrom { key, map: VerdictMap::Anonymous(_) } => {
                lookup::write_verdict(writer, key, ANONYMOUS_MAP, maps.next());
            }
            other => write(writer, family, other),
        }
    }
}

/// Writes one statement.
fn write(writer: &mut Writer, family: TableFamily, statement: &Statement) {
    match statement {
        Statement::Compare { left, op, right } => compare::write(writer, left, *op, right),
        Statement::Lookup { key, op, set } => lookup::write(writer, key, *op, set),
        Statement::Counter => expression(writer, "counter", |_| ()),
        Statement::NoTrack => expression(writer, "notrack", |_| ()),
        Statement::SetMark(value) => write_meta(writer, meta_key::MARK, value),
        Statement::SetPriority(value) => write_meta(writer, meta_key::PRIORITY, value),
        Statement::Masquerade(flags) => expression(writer, "masq", |writer| {
            if *flags != NatFlags::default() {
                writer.number(masq::FLAGS, flags.bits());
            }
        }),
        Statement::VerdictFrom { key, map: VerdictMap::Named(map) } => lookup::write_verdict(writer, key, map, None),
        Statement::Dynamic { .. } => lookup::write_dynamic(writer, statement),
        Statement::Nat { side, to, flags } => translate::write(writer, family, *side, to, *flags),
        Statement::Reject(what) => translate::write_reject(writer, *what),
        Statement::Verdict(verdict) => expression(writer, IMMEDIATE, |writer| {
            writer.number(DREG, REGISTER_VERDICT);
            writer.nest(immediate::DATA, |writer| verdict.write(writer));
        }),
        // `write_all` has written the one, and `check` has refused the other.
        Statement::VerdictFrom { .. } | Statement::Opaque { .. } => {}
    }
}

/// Writes what sets a packet's mark or priority.
fn write_meta(writer: &mut Writer, key: u32, value: &Expression) {
    match value {
        Expression::MarkFrom(map) => lookup::write_map(writer, map),
        value => load::write(writer, value, 0),
    }
    expression(writer, "meta", |writer| {
        writer.number(meta::KEY, key);
        writer.number(meta::SREG, register(0));
    });
}

/// The statements of a rule in a table of `family`.
pub(super) fn read(family: TableFamily, list: Attributes<'_>) -> Vec<Statement> {
    let mut reader = Reader { network: family.network(), ..Reader::default() };
    for expression in list.list() {
        let name = expression.text(abi::expression::NAME).unwrap_or_default();
        let attributes = expression.nest(abi::expression::DATA);
        reader.unused.push((name.clone(), attributes.0.to_vec()));
        if reader.expression(&name, attributes).is_none() {
            reader.give_up();
        }
    }
    reader.give_up();
    reader.statements
}

/// The state of reading one rule.
#[derive(Default)]
struct Reader {
    /// The only network protocol of packets that get here, where it is known.
    network: Option<types::Family>,
    /// What no statement has used yet.
    loads: Vec<Load>,
    /// The expressions since the last statement, with their attributes.
    unused: Vec<(String, Vec<u8>)>,
    statements: Vec<Statement>,
}

impl Reader {
    /// `None` for an expression that is not understood.
    fn expression(&mut self, name: &str, attributes: Attributes<'_>) -> Option<()> {
        let statement = match name {
            "cmp" => self.compare(attributes)?,
            "counter" => self.alone(Statement::Counter)?,
            "notrack" => self.alone(Statement::NoTrack)?,
            IMMEDIATE if attributes.number(DREG)? == REGISTER_VERDICT => {
                self.alone(Statement::Verdict(Verdict::read(attributes.nest(immediate::DATA))?))?
            }
            LOOKUP
                if attributes.number(lookup_attribute::DREG).is_some_and(|register| register != REGISTER_VERDICT) =>
            {
                return self.load_from_map(attributes);
            }
            LOOKUP => self.lookup(attributes)?,
            "dynset" => self.dynamic(attributes)?,
            "nat" => self.nat(attributes)?,
            "reject" => self.reject(attributes)?,
            "masq" if attributes.get(masq::PROTO_MIN).is_some() => return None,
            "masq" => {
                let flags = NatFlags::from_bits(attributes.number(masq::FLAGS).unwrap_or(0))?;
                self.alone(Statement::Masquerade(flags))?
            }
            "meta" if attributes.number(meta::SREG).is_some() => self.set_meta(attributes)?,
            "bitwise" => return self.bitwise(attributes),
            "byteorder" => return self.byteorder(attributes),
            _ => return self.load(name, attributes),
        };
        self.network = self.network.or_else(|| statement.network());
        self.loads.clear();
        self.unused.clear();
        self.statements.push(statement);
        Some(())
    }

    /// Makes opaque what is not understood, and what was loaded before it.
    fn give_up(&mut self) {
        self.loads.clear();
        self.statements.extend(self.unused.drain(..).map(|(name, data)| Statement::Opaque { name, data }));
    }

    /// A statement that uses nothing that was loaded.
    fn alone(&self, statement: Statement) -> Option<Statement> {
        self.loads.is_empty().then_some(statement)
    }

    fn set_meta(&self, attributes: Attributes<'_>) -> Option<Statement> {
        let key = attributes.number(meta::KEY)?;
        let Load { loaded, prefix: None, .. } = self.only(attributes.number(meta::SREG)?)? else { return None };
        if key == meta_key::PRIORITY {
            let value = match loaded {
                Expression::Value(Value::Bytes(bytes)) => {
                    Expression::Value(Value::Priority(u32::from_ne_bytes(bytes[..].try_into().ok()?)))
                }
                value @ Expression::MarkFrom(_) => value.clone(),
                _ => return None,
            };
            return Some(Statement::SetPriority(value));
        }
        (key == meta_key::MARK).then_some(())?;
        let value = match loaded {
            Expression::Value(Value::Bytes(bytes)) => {
                Expression::Value(Value::Mark(u32::from_ne_bytes(bytes[..].try_into().ok()?)))
            }
            value if [Type::Mark, Type::Integer].contains(&value.kind()) => value.clone(),
            _ => return None,
        };
        Some(Statement::SetMark(value))
    }
}

fn expression(writer: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    writer.nest(abi::LIST_ELEM, |writer| {
        writer.text(abi::expression::NAME, name);
        writer.nest(abi::expression::DATA, body);
    });
}

/// The number of the register at `word`: 16 registers of four bytes, of which each fourth has a name of its own.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { word / 4 + 1 } else { word + 8 }
}

/// The place of a register among the sixteen of four bytes each.
fn word(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

impl Comparison {
    /// `NFT_CMP_EQ` or `NFT_CMP_NEQ`; in a lookup, whether `NFT_LOOKUP_F_INV` is set.
    fn from_number(number: u32) -> Option<Self> {
        [Comparison::Eq, Comparison::Ne].into_iter().find(|op| *op as u32 == number)
    }
}

impl NatFlags {
    fn bits(self) -> u32 {
        self.each().into_iter().filter_map(|(set, bit, _)| set.then_some(bit)).sum()
    }

    fn from_bits(bits: u32) -> Option<Self> {
        let [random, fully_random, persistent] = Self::default().each().map(|(_, bit, _)| bits & bit != 0);
        Some(Self { random, fully_random, persistent }).filter(|flags| flags.bits() == bits)
    }
}
