//! Rules as the kernel's expressions. Pure.
//!
//! Values travel in registers of four bytes each. A statement loads what it needs from the first register on, and
//! none uses what another one loaded.

use super::super::abi::{self, REGISTER_VERDICT, data, expr};
use super::super::expression::{Expression, NatFlags, Op, Operand, Side, Statement, Type, Value};
use super::super::table::{Family, Rule};
use super::super::wire;
use super::super::writer::Writer;
use super::elements::write_verdict;
use crate::types::{self, Prefix};

/// Says what is wrong with a rule that the kernel would take for another one than was meant.
pub(super) fn check(family: Family, rule: &Rule) -> Result<(), &'static str> {
    let mut network = family.network();
    for statement in &rule.statements {
        match statement {
            Statement::Compare { left, op, right } => {
                check_expression(family, network, left)?;
                check_operand(left, right)?;
                network = network.or_else(|| statement_network(left, *op, right));
            }
            Statement::Lookup { key, .. } => {
                if key.is_empty() || key.iter().any(|part| matches!(part, Expression::Value(_))) {
                    return Err("a key is made of what is read from the packet");
                }
                key.iter().try_for_each(|part| check_expression(family, network, part))?;
            }
            Statement::SetMark(value) => {
                check_expression(family, network, value)?;
                if value.kind() != Type::Mark {
                    return Err("a mark can only be set to a mark");
                }
            }
            Statement::Opaque { .. } => return Err("it holds an expression that was read but is not understood"),
            Statement::Counter | Statement::Masquerade(_) | Statement::Verdict(_) => {}
        }
    }
    Ok(())
}

/// The network protocol that a comparison leaves as the only one.
pub(in super::super) fn statement_network(left: &Expression, op: Op, right: &Operand) -> Option<types::Family> {
    match (left, op, right) {
        (Expression::NetworkProtocol, Op::Eq, Operand::Value(Value::NetworkProtocol(family))) => Some(*family),
        _ => None,
    }
}

impl Family {
    /// The network protocol of all packets of this family of tables.
    pub(in super::super) fn network(self) -> Option<types::Family> {
        match self {
            Family::Ip => Some(types::Family::V4),
            Family::Ip6 => Some(types::Family::V6),
            Family::Inet | Family::Arp | Family::Netdev | Family::Bridge => None,
        }
    }
}

fn check_expression(
    family: Family,
    network: Option<types::Family>,
    expression: &Expression,
) -> Result<(), &'static str> {
    match expression {
        Expression::Address(wanted, _) if network != Some(*wanted) && (network.is_some() || family == Family::Inet) => {
            Err("an address is read without `meta nfproto` saying before that it is there")
        }
        Expression::Bits { of, .. } if !matches!(**of, Expression::Mark | Expression::ConnectionState) => {
            Err("only a mark or a connection's state can be masked")
        }
        _ => Ok(()),
    }
}

fn check_operand(left: &Expression, right: &Operand) -> Result<(), &'static str> {
    match (left, right) {
        (Expression::Value(_), _) => Err("a comparison must read something from the packet"),
        (_, Operand::Value(Value::Address(_))) => Err("an address is compared with a prefix"),
        (Expression::Address(family, _), Operand::Prefix(prefix)) if *family == prefix.family() => Ok(()),
        (Expression::InputName | Expression::OutputName, Operand::NamesLike(start)) => {
            let fits = start.as_str().len() < wire::IFNAME_BYTES - 1;
            if fits { Ok(()) } else { Err("a name of 15 bytes has no room for more: compare it whole") }
        }
        (left, Operand::Value(value)) if left.kind() == value.kind() => Ok(()),
        _ => Err("a comparison must be with a value of the same type"),
    }
}

/// Writes one statement.
pub(super) fn statement(writer: &mut Writer, statement: &Statement) {
    match statement {
        Statement::Compare { left, op, right: Operand::Prefix(prefix) } => compare_prefix(writer, left, *op, *prefix),
        Statement::Compare { left, op, right } => {
            load(writer, left, 0);
            let bytes = match right {
                Operand::Value(value) => value.to_bytes(),
                Operand::NamesLike(name) => name.as_str().as_bytes().to_vec(),
                Operand::Prefix(_) => Vec::new(),
            };
            compare(writer, *op, &bytes);
        }
        Statement::Lookup { key, op, set } => lookup(writer, key, *op, set),
        Statement::Counter => expression(writer, "counter", |_| ()),
        Statement::SetMark(value) => {
            load(writer, value, 0);
            expression(writer, "meta", |writer| {
                writer.number(expr::META_KEY, expr::META_MARK);
                writer.number(expr::META_SREG, register(0));
            });
        }
        Statement::Masquerade(flags) => expression(writer, "masq", |writer| {
            if *flags != NatFlags::default() {
                writer.number(expr::MASQ_FLAGS, flags.bits());
            }
        }),
        Statement::Verdict(verdict) => expression(writer, "immediate", |writer| {
            writer.number(expr::IMMEDIATE_DREG, REGISTER_VERDICT);
            writer.nest(expr::IMMEDIATE_DATA, |writer| write_verdict(writer, verdict));
        }),
        // `check` has refused it.
        Statement::Opaque { .. } => {}
    }
}

impl NatFlags {
    fn bits(self) -> u32 {
        [
            (self.random, expr::NAT_RANDOM),
            (self.fully_random, expr::NAT_FULLY_RANDOM),
            (self.persistent, expr::NAT_PERSISTENT),
        ]
        .into_iter()
        .filter_map(|(set, bit)| set.then_some(bit))
        .sum()
    }
}

/// The number of the register at `word`: 16 registers of four bytes, of which each fourth has a name of its own.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { word / 4 + 1 } else { word + 8 }
}

fn expression(writer: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    writer.nest(abi::LIST_ELEM, |writer| {
        writer.text(expr::NAME, name);
        writer.nest(expr::DATA, body);
    });
}

fn compare(writer: &mut Writer, op: Op, bytes: &[u8]) {
    expression(writer, "cmp", |writer| {
        writer.number(expr::CMP_SREG, register(0));
        writer.number(expr::CMP_OP, u32::from(op == Op::Ne));
        writer.nest(expr::CMP_DATA, |writer| writer.put(data::VALUE, bytes));
    });
}

/// Whole bytes of a prefix need no mask: fewer are loaded. `nft` does the same and prints the prefix.
fn compare_prefix(writer: &mut Writer, left: &Expression, op: Op, prefix: Prefix) {
    let bytes = Value::Address(prefix.address()).to_bytes();
    let whole = usize::from(prefix.len() / 8);
    match left {
        Expression::Address(family, side) if whole > 0 && prefix.len().is_multiple_of(8) => {
            payload(writer, expr::NETWORK_HEADER, address_offset(*family, *side), whole, 0);
            compare(writer, op, &bytes[..whole]);
        }
        _ => {
            load(writer, left, 0);
            bitwise(writer, 0, &mask(prefix), &vec![0; bytes.len()]);
            compare(writer, op, &bytes);
        }
    }
}

fn mask(prefix: Prefix) -> Vec<u8> {
    let bits = prefix.family().bits();
    let mask = u128::MAX.checked_shl(u32::from(bits - prefix.len())).unwrap_or(0);
    Value::Address(types::address(prefix.family(), mask)).to_bytes()
}

fn lookup(writer: &mut Writer, key: &[Expression], op: Op, set: &str) {
    let mut word = 0;
    for part in key {
        load(writer, part, word);
        word += u32::try_from(part.kind().bytes().div_ceil(4)).unwrap_or(0);
    }
    expression(writer, "lookup", |writer| {
        writer.text(expr::LOOKUP_SET, set);
        writer.number(expr::LOOKUP_SREG, register(0));
        if op == Op::Ne {
            writer.number(expr::LOOKUP_FLAGS, expr::LOOKUP_INVERTED);
        }
    });
}

/// Offset of an address in its header (RFC 791 section 3.1, RFC 8200 section 3).
pub(in super::super) fn address_offset(family: types::Family, side: Side) -> u32 {
    match (family, side) {
        (types::Family::V4, Side::Source) => 12,
        (types::Family::V4, Side::Destination) => 16,
        (types::Family::V6, Side::Source) => 8,
        (types::Family::V6, Side::Destination) => 24,
    }
}

/// Offset of a port in its header: the same for TCP, UDP, SCTP and DCCP.
pub(in super::super) fn port_offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

/// Writes what loads `what` into the registers from `word` on.
fn load(writer: &mut Writer, what: &Expression, word: u32) {
    match what {
        Expression::Value(value) => expression(writer, "immediate", |writer| {
            writer.number(expr::IMMEDIATE_DREG, register(word));
            writer.nest(expr::IMMEDIATE_DATA, |writer| writer.put(data::VALUE, &value.to_bytes()));
        }),
        Expression::NetworkProtocol => meta(writer, expr::META_NFPROTO, word),
        Expression::Protocol => meta(writer, expr::META_L4PROTO, word),
        Expression::Mark => meta(writer, expr::META_MARK, word),
        Expression::InputName => meta(writer, expr::META_IIFNAME, word),
        Expression::OutputName => meta(writer, expr::META_OIFNAME, word),
        Expression::Address(family, side) => {
            payload(writer, expr::NETWORK_HEADER, address_offset(*family, *side), what.kind().bytes(), word);
        }
        Expression::Port(side) => {
            payload(writer, expr::TRANSPORT_HEADER, port_offset(*side), what.kind().bytes(), word);
        }
        Expression::DestinationType => expression(writer, "fib", |writer| {
            writer.number(expr::FIB_DREG, register(word));
            writer.number(expr::FIB_RESULT, expr::FIB_RESULT_ADDRTYPE);
            writer.number(expr::FIB_FLAGS, expr::FIB_DADDR);
        }),
        Expression::ConnectionState => expression(writer, "ct", |writer| {
            writer.number(expr::CT_DREG, register(word));
            writer.number(expr::CT_KEY, expr::CT_STATE);
        }),
        Expression::Bits { of, mask, xor } => {
            load(writer, of, word);
            bitwise(writer, word, &mask.to_ne_bytes(), &xor.to_ne_bytes());
        }
    }
}

fn meta(writer: &mut Writer, key: u32, word: u32) {
    expression(writer, "meta", |writer| {
        writer.number(expr::META_DREG, register(word));
        writer.number(expr::META_KEY, key);
    });
}

fn payload(writer: &mut Writer, base: u32, offset: u32, bytes: usize, word: u32) {
    expression(writer, "payload", |writer| {
        writer.number(expr::PAYLOAD_DREG, register(word));
        writer.number(expr::PAYLOAD_BASE, base);
        writer.number(expr::PAYLOAD_OFFSET, offset);
        writer.number(expr::PAYLOAD_LEN, u32::try_from(bytes).unwrap_or(0));
    });
}

fn bitwise(writer: &mut Writer, word: u32, mask: &[u8], xor: &[u8]) {
    expression(writer, "bitwise", |writer| {
        writer.number(expr::BITWISE_SREG, register(word));
        writer.number(expr::BITWISE_DREG, register(word));
        writer.number(expr::BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0));
        writer.nest(expr::BITWISE_MASK, |writer| writer.put(data::VALUE, mask));
        writer.nest(expr::BITWISE_XOR, |writer| writer.put(data::VALUE, xor));
    });
}
