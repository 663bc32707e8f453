//! Types, values and statements in the language of `nft`. Pure.

use std::fmt::{Display, Formatter, Result};

use super::super::expression::{
    Comparison, Expression, NatFlags, Operand, Statement, Type, Value, Verdict, protocol, state,
};
use super::joined;
use crate::types;

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Type::Other { id, bytes } => write!(f, "type{id}_{bytes}_bytes"),
            known => f.write_str(known.name()),
        }
    }
}

const PROTOCOLS: [(u8, &str); 4] =
    [(protocol::TCP, "tcp"), (protocol::UDP, "udp"), (protocol::SCTP, "sctp"), (1, "icmp")];
const STATES: [(u32, &str); 5] = [
    (state::INVALID, "invalid"),
    (state::ESTABLISHED, "established"),
    (state::RELATED, "related"),
    (state::NEW, "new"),
    (state::UNTRACKED, "untracked"),
];

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Value::Address(address) => write!(f, "{address}"),
            Value::Protocol(number) => match PROTOCOLS.iter().find(|(known, _)| known == number) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "{number}"),
            },
            Value::Service(port) => write!(f, "{port}"),
            Value::Mark(bits) => write!(f, "{bits:#010x}"),
            Value::IfName(name) => write!(f, "\"{name}\""),
            Value::NetworkProtocol(types::Family::V4) => f.write_str("ipv4"),
            Value::NetworkProtocol(types::Family::V6) => f.write_str("ipv6"),
            Value::AddressType(kind) => kind.fmt(f),
            Value::ConnectionState(bits) => match state_names(*bits) {
                Some(names) => f.write_str(&names),
                None => write!(f, "{bits:#x}"),
            },
            Value::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// `established,related`; `None` where a bit has no name.
fn state_names(bits: u32) -> Option<String> {
    let known = STATES.iter().fold(0, |known, (bit, _)| known | bit);
    let names = STATES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name);
    (bits != 0 && bits & !known == 0).then(|| joined(names, ","))
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Continue => f.write_str("continue"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expression::Value(value) => value.fmt(f),
            Expression::Bits { of, mask, xor: 0 } => write!(f, "{of} & {mask:#010x}"),
            Expression::Bits { of, mask, xor } if !mask == *xor => write!(f, "{of} | {xor:#010x}"),
            Expression::Bits { of, mask, xor } => write!(f, "({of} & {mask:#010x}) ^ {xor:#010x}"),
            read => f.write_str(read.source().text),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operand::Value(value) => value.fmt(f),
            Operand::Prefix(prefix) if prefix.len() == prefix.family().bits() => prefix.address().fmt(f),
            Operand::Prefix(prefix) => prefix.fmt(f),
            Operand::NamesLike(start) => write!(f, "\"{start}*\""),
        }
    }
}

impl Display for NatFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&joined(self.each().into_iter().filter(|(set, ..)| *set).map(|(.., name)| name), ","))
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Statement::Compare {
                left: Expression::Bits { of, mask, xor: 0 },
                op: Comparison::Ne,
                right: Operand::Value(Value::ConnectionState(0)),
            } if let Some(names) = state_names(*mask) => write!(f, "{of} {names}"),
            // Without a sign, `nft` takes a set of bits for one that shares a bit.
            Statement::Compare {
                left: bits @ (Expression::Bits { .. } | Expression::ConnectionState),
                op: Comparison::Eq,
                right,
            } => {
                write!(f, "{bits} == {right}")
            }
            Statement::Compare { left, op, right } => write!(f, "{left} {}{right}", op.sign()),
            Statement::Lookup { key, op, set } => write!(f, "{} {}@{set}", joined(key, " . "), op.sign()),
            Statement::Counter => f.write_str("counter"),
            Statement::NoTrack => f.write_str("notrack"),
            Statement::SetMark(value) => write!(f, "meta mark set {value}"),
            Statement::Masquerade(flags) if *flags == NatFlags::default() => f.write_str("masquerade"),
            Statement::Masquerade(flags) => write!(f, "masquerade {flags}"),
            Statement::Verdict(verdict) => verdict.fmt(f),
            Statement::Opaque { name, data } => write!(f, "<{name} of {} bytes>", data.len()),
        }
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Comparison::Eq => "",
            Comparison::Ne => "!= ",
        }
    }
}
