//! Translations of addresses and ports, and rejections. Pure.

use super::super::abi::{immediate, nat, nat_flag, nat_type, reject, reject_code, reject_type};
use super::super::attributes::Attributes;
use super::super::expression::{Expression, NatFlags, NatTarget, Reject, Side, Statement};
use super::super::source::IMMEDIATE;
use super::super::table::TableFamily;
use super::super::value::{Type, Value};
use super::super::writer::Writer;
use super::{DREG, Load, Reader, expression, lookup, register, word};
use crate::types;

/// The register of a constant port: behind the longest address.
const PORT_WORD: u32 = 4;

fn write_constant(writer: &mut Writer, value: &Value, word: u32) {
    expression(writer, IMMEDIATE, |writer| {
        writer.number(DREG, register(word));
        writer.value(immediate::DATA, &value.to_bytes());
    });
}

/// The first register behind an address in the first.
fn words_of_address(family: types::Family) -> u32 {
    u32::from(family.bits()) / 32
}

/// Writes a translation in a table of `table`'s family.
pub(super) fn write(writer: &mut Writer, table: TableFamily, side: Side, to: &NatTarget, flags: NatFlags) {
    let (family, address, port) = match to {
        NatTarget::Address(address, port) => {
            write_constant(writer, &Value::Address(*address), 0);
            if let Some(port) = port {
                write_constant(writer, &Value::Service(*port), PORT_WORD);
            }
            (TableFamily::of_network(types::Family::of(*address)), Some(0), port.map(|_| PORT_WORD))
        }
        NatTarget::Port(port) => {
            write_constant(writer, &Value::Service(*port), 0);
            (table, None, Some(0))
        }
        NatTarget::Map { family, with_port, lookup } => {
            lookup::write_map(writer, lookup);
            (TableFamily::of_network(*family), Some(0), with_port.then(|| words_of_address(*family)))
        }
    };
    expression(writer, "nat", |writer| {
        writer.number(nat::TYPE, if side == Side::Source { nat_type::SNAT } else { nat_type::DNAT });
        writer.number(nat::FAMILY, family.number().into());
        if let Some(word) = address {
            writer.number(nat::ADDR_MIN, register(word));
        }
        if let Some(word) = port {
            writer.number(nat::PROTO_MIN, register(word));
        }
        if flags != NatFlags::default() {
            writer.number(nat::FLAGS, flags.bits());
        }
    });
}

/// Writes a rejection.
pub(super) fn write_reject(writer: &mut Writer, what: Reject) {
    let (kind, code) = match what {
        Reject::PortUnreachable(types::Family::V4) => (reject_type::ICMP, reject_code::ICMP_PORT),
        Reject::PortUnreachable(types::Family::V6) => (reject_type::ICMP, reject_code::ICMPV6_PORT),
        Reject::AnyPortUnreachable => (reject_type::ICMPX, reject_code::ICMPX_PORT),
        Reject::TcpReset => (reject_type::TCP_RESET, 0),
    };
    expression(writer, "reject", |writer| {
        writer.number(reject::TYPE, kind);
        writer.put(reject::CODE, &[code]);
    });
}

impl Reader {
    pub(super) fn nat(&self, attributes: Attributes<'_>) -> Option<Statement> {
        let range = |min, max| {
            let (min, max) = (attributes.number(min), attributes.number(max));
            (max.is_none() || max == min).then_some(min)
        };
        let place = |register: Option<u32>| register.map_or(Some(None), |register| word(register).map(Some));
        let address = place(range(nat::ADDR_MIN, nat::ADDR_MAX)?)?;
        let port = place(range(nat::PROTO_MIN, nat::PROTO_MAX)?)?;
        let family = u8::try_from(attributes.number(nat::FAMILY)?).ok().and_then(TableFamily::from_number)?.network();
        let to = match (self.loads.as_slice(), address) {
            ([Load { word, loaded: Expression::MarkFrom(lookup), .. }], Some(address)) if *word == address => {
                let family = family?;
                (port.is_none() || port == Some(address + words_of_address(family))).then_some(())?;
                NatTarget::Map { family, with_port: port.is_some(), lookup: lookup.clone() }
            }
            (loads, Some(address)) if loads.len() == 1 + usize::from(port.is_some()) => {
                let Value::Address(address) = self.constant(address, Type::Address(family?))? else { return None };
                NatTarget::Address(address, port.map_or(Some(None), |word| self.constant_port(word).map(Some))?)
            }
            ([_], None) => NatTarget::Port(self.constant_port(port?)?),
            _ => return None,
        };
        let flags = attributes.number(nat::FLAGS).unwrap_or(0) & !(nat_flag::MAP_IPS | nat_flag::PROTO_SPECIFIED);
        let side = match attributes.number(nat::TYPE)? {
            nat_type::SNAT => Side::Source,
            nat_type::DNAT => Side::Destination,
            _ => return None,
        };
        Some(Statement::Nat { side, to, flags: NatFlags::from_bits(flags)? })
    }

    /// The constant of this type in a register.
    fn constant(&self, place: u32, kind: Type) -> Option<Value> {
        let load = self.loads.iter().find(|load| load.word == place)?;
        let Expression::Value(Value::Bytes(bytes)) = &load.loaded else { return None };
        Some(Value::from_bytes(kind, bytes))
    }

    fn constant_port(&self, place: u32) -> Option<u16> {
        match self.constant(place, Type::Service)? {
            Value::Service(port) => Some(port),
            _ => None,
        }
    }

    pub(super) fn reject(&self, attributes: Attributes<'_>) -> Option<Statement> {
        let code = attributes.get(reject::CODE).and_then(|code| code.first().copied());
        let what = match (attributes.number(reject::TYPE)?, code, self.network) {
            (reject_type::ICMP, Some(reject_code::ICMP_PORT), Some(family @ types::Family::V4))
            | (reject_type::ICMP, Some(reject_code::ICMPV6_PORT), Some(family @ types::Family::V6)) => {
                Reject::PortUnreachable(family)
            }
            (reject_type::ICMPX, Some(reject_code::ICMPX_PORT), _) => Reject::AnyPortUnreachable,
            (reject_type::TCP_RESET, ..) => Reject::TcpReset,
            _ => return None,
        };
        self.alone(Statement::Reject(what))
    }
}
