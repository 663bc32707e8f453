//! Comparisons. Pure.

use super::super::abi::cmp;
use super::super::attributes::Attributes;
use super::super::expression::{Comparison, Expression, Operand, Statement};
use super::super::value::{Type, Value};
use super::super::wire::IFNAME_BYTES;
use super::super::writer::Writer;
use super::{Reader, expression, load, register};
use crate::types::{self, Prefix};

pub(super) fn write(writer: &mut Writer, left: &Expression, op: Comparison, right: &Operand) {
    let mut bytes = match right {
        Operand::Value(value) => value.to_bytes(),
        Operand::NamesLike(name) => name.as_str().as_bytes().to_vec(),
        Operand::Prefix(prefix) => Value::Address(prefix.address()).to_bytes(),
    };
    match right {
        // Whole bytes of a prefix need no mask: fewer are loaded. `nft` does the same and prints the prefix.
        Operand::Prefix(prefix) if prefix.len() > 0 && prefix.len().is_multiple_of(8) => {
            bytes.truncate(usize::from(prefix.len() / 8));
            load::write_start(writer, left, 0, bytes.len());
        }
        Operand::Prefix(prefix) => {
            let mask = types::address(prefix.family(), !(prefix.first() ^ prefix.last()));
            load::write(writer, left, 0);
            load::write_bitwise(writer, 0, &Value::Address(mask).to_bytes(), &vec![0; bytes.len()]);
        }
        _ => load::write(writer, left, 0),
    }
    expression(writer, "cmp", |writer| {
        writer.number(cmp::SREG, register(0));
        writer.number(cmp::OP, op as u32);
        writer.value(cmp::DATA, &bytes);
    });
}

impl Reader {
    pub(super) fn compare(&self, attributes: Attributes<'_>) -> Option<Statement> {
        let load = self.only(attributes.number(cmp::SREG)?)?;
        let left = load.loaded.clone();
        let op = Comparison::from_number(attributes.number(cmp::OP)?)?;
        let bytes = attributes.value(cmp::DATA)?;
        (left.is_read() && left.kind() != Type::Integer).then_some(())?;
        let right = match left {
            Expression::Address(family, _) => {
                Operand::Prefix(prefix(family, load.prefix.unwrap_or(family.bits()), bytes)?)
            }
            Expression::InputName | Expression::OutputName if bytes.len() < IFNAME_BYTES => {
                Operand::NamesLike(std::str::from_utf8(bytes).ok()?.parse().ok()?)
            }
            _ => match Value::from_bytes(left.kind(), bytes) {
                Value::Bytes(_) => return None,
                value => Operand::Value(value),
            },
        };
        Some(Statement::Compare { left, op, right })
    }
}

/// The prefix whose first bytes these are; `None` where bits behind its length are set.
fn prefix(family: types::Family, length: u8, bytes: &[u8]) -> Option<Prefix> {
    let mut padded = bytes.to_vec();
    let whole = usize::from(family.bits() / 8);
    (bytes.len() <= whole && bytes.len() * 8 >= usize::from(length)).then_some(())?;
    padded.resize(whole, 0);
    let Value::Address(address) = Value::from_bytes(Type::Address(family), &padded) else { return None };
    Prefix::new(address, length).filter(|prefix| prefix.address() == address)
}
