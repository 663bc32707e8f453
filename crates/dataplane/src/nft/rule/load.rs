//! What is loaded into registers, and changed there. Pure.

use super::super::abi::{DREG, bitwise, byteorder, immediate, numgen, payload};
use super::super::attributes::Attributes;
use super::super::expression::Expression;
use super::super::source::{IMMEDIATE, PAYLOAD};
use super::super::value::{Type, Value};
use super::super::writer::Writer;
use super::{Reader, expression, register, word};
use crate::types;

/// Something that was loaded and not used yet.
pub(super) struct Load {
    /// The first of its registers.
    pub(super) word: u32,
    /// A constant is [`Value::Bytes`]: its type depends on its use.
    pub(super) loaded: Expression,
    /// For an address of which only so many bits are left, which is good for a comparison with a prefix.
    pub(super) prefix: Option<u8>,
}

/// Writes what loads `what` into the registers from `word` on.
pub(super) fn write(writer: &mut Writer, what: &Expression, word: u32) {
    write_start(writer, what, word, what.kind().bytes());
    if let Expression::Bits { mask, xor, .. } = what {
        write_bitwise(writer, word, &mask.to_ne_bytes(), &xor.to_ne_bytes());
    }
}

/// Writes what loads the first bytes of `what`.
pub(super) fn write_start(writer: &mut Writer, what: &Expression, word: u32, bytes: usize) {
    let source = what.source();
    expression(writer, source.name, |writer| {
        writer.number(DREG, register(word));
        for (kind, number) in source.attributes {
            writer.number(*kind, *number);
        }
        if source.name == PAYLOAD {
            writer.length(payload::LEN, bytes);
        }
        match what {
            Expression::Value(value) => writer.value(immediate::DATA, &value.to_bytes()),
            Expression::Random { modulus, offset } => {
                writer.number(numgen::MODULUS, *modulus);
                writer.number(numgen::OFFSET, *offset);
            }
            _ => {}
        }
    });
}

/// Writes `(register & mask) ^ xor`.
pub(super) fn write_bitwise(writer: &mut Writer, word: u32, mask: &[u8], xor: &[u8]) {
    expression(writer, "bitwise", |writer| {
        writer.number(bitwise::SREG, register(word));
        writer.number(bitwise::DREG, register(word));
        writer.length(bitwise::LEN, mask.len());
        writer.value(bitwise::MASK, mask);
        writer.value(bitwise::XOR, xor);
    });
}

impl Reader {
    /// A constant, or what is read from a packet.
    pub(super) fn load(&mut self, name: &str, attributes: Attributes<'_>) -> Option<()> {
        let loaded = match attributes.value(immediate::DATA) {
            Some(bytes) if name == IMMEDIATE => Expression::Value(Value::Bytes(bytes.to_vec())),
            _ => Expression::loaded_by(name, attributes)?,
        };
        let whole = loaded.kind().bytes();
        let length = if name == PAYLOAD { attributes.number(payload::LEN)? as usize } else { whole };
        let is_certain = match (&loaded, self.network) {
            (Expression::Address(family, _), Some(network)) => network == *family && (1..=whole).contains(&length),
            // Without knowing the protocol, a few bytes at these offsets may be anything, such as IPv4's TTL.
            _ => length == whole,
        };
        is_certain.then_some(())?;
        let prefix = if length < whole { Some(u8::try_from(length * 8).ok()?) } else { None };
        self.loads.push(Load { word: word(attributes.number(DREG)?)?, loaded, prefix });
        Some(())
    }

    /// What was loaded into a register, where nothing else is loaded.
    pub(super) fn only(&self, register: u32) -> Option<&Load> {
        match self.loads.as_slice() {
            [one] if Some(one.word) == word(register) => Some(one),
            _ => None,
        }
    }

    /// What was loaded last, where that is what an expression changes in its place.
    fn changed(&mut self, source: Option<u32>, destination: Option<u32>) -> Option<&mut Load> {
        let place = word(source.filter(|_| source == destination)?)?;
        self.loads.last_mut().filter(|load| load.word == place)
    }

    pub(super) fn bitwise(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let load = self.changed(attributes.number(bitwise::SREG), attributes.number(bitwise::DREG))?;
        let (mask, xor) = (attributes.value(bitwise::MASK)?, attributes.value(bitwise::XOR)?);
        let is_mask = attributes.number(bitwise::OP).unwrap_or(0) == 0;
        let is_whole = attributes.number(bitwise::LEN)? as usize == mask.len() && mask.len() == xor.len();
        (is_mask && is_whole && load.prefix.is_none()).then_some(())?;
        match &load.loaded {
            Expression::Mark | Expression::ConnectionState | Expression::ConnectionStatus => {
                let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
                let (mask, xor) = (number(mask)?, number(xor)?);
                load.loaded = Expression::Bits { of: Box::new(load.loaded.clone()), mask, xor };
            }
            Expression::Address(family, _) => {
                xor.iter().all(|byte| *byte == 0).then_some(())?;
                load.prefix = Some(mask_length(*family, mask)?);
            }
            _ => return None,
        }
        Some(())
    }

    /// `nft` 1.0.6 turns single bytes of a key over as if they were two, which the kernel does not do.
    pub(super) fn byteorder(&mut self, attributes: Attributes<'_>) -> Option<()> {
        self.changed(attributes.number(byteorder::SREG), attributes.number(byteorder::DREG))?;
        (attributes.number(byteorder::LEN)? < attributes.number(byteorder::SIZE)?).then_some(())
    }
}

/// How many bits are set at the start of a mask; `None` where others are set as well.
fn mask_length(family: types::Family, mask: &[u8]) -> Option<u8> {
    let Value::Address(mask) = Value::from_bytes(Type::Address(family), mask) else { return None };
    ipnetwork::ip_mask_to_prefix(mask).ok()
}
