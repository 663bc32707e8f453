//! Types, values and statements in the language of `nft`. Pure.

use std::fmt::{Display, Formatter, Result};
use std::net::SocketAddr;

use super::super::expression::{
    Comparison, DynamicAction, Expression, MapLookup, NatFlags, NatTarget, Operand, Reject, Side, Statement, Verdict,
    VerdictMap,
};
use super::super::value::{Type, Value, protocol, state, status};
use super::{Time, joined};
use crate::types;

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Type::Other { id, bytes } => write!(f, "type{id}_{bytes}_bytes"),
            known => f.write_str(known.name()),
        }
    }
}

impl Type {
    /// An expression of the type, for declarations by `typeof`; the same that `userdata` gives to `nft`.
    pub(super) fn typeof_text(self) -> String {
        use Expression::{Address, Mark, Port, Priority, Protocol};
        let expression = match self {
            Type::Address(family) => Address(family, Side::Destination),
            Type::Service => Port(Side::Destination),
            Type::Protocol => Protocol,
            Type::Mark => Mark,
            Type::Priority => Priority,
            Type::Integer => Expression::random(2),
            other => return other.to_string(),
        };
        expression.to_string()
    }
}

const PROTOCOLS: [(u8, &str); 4] =
    [(protocol::TCP, "tcp"), (protocol::UDP, "udp"), (protocol::SCTP, "sctp"), (1, "icmp")];
const STATUSES: [(u32, &str); 7] = [
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (status::SNAT, "snat"),
    (status::DNAT, "dnat"),
    (0x200, "dying"),
];
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
            Value::Priority(0) => f.write_str("none"),
            Value::Priority(number) => write!(f, "{:04x}:{:04x}", number >> 16, number & 0xffff),
            Value::IfName(name) => write!(f, "\"{name}\""),
            Value::NetworkProtocol(types::Family::V4) => f.write_str("ipv4"),
            Value::NetworkProtocol(types::Family::V6) => f.write_str("ipv6"),
            Value::AddressType(kind) => kind.fmt(f),
            Value::ConnectionState(bits) | Value::ConnectionStatus(bits) => match self.bit_names() {
                Some(names) => f.write_str(&names),
                None => write!(f, "{bits:#x}"),
            },
            Value::Integer(number) => write!(f, "{number}"),
            Value::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Value {
    /// `established,related`; `None` where a bit has no name, and for other values.
    fn bit_names(&self) -> Option<String> {
        let (bits, all): (u32, &[_]) = match self {
            Value::ConnectionState(bits) => (*bits, &STATES),
            Value::ConnectionStatus(bits) => (*bits, &STATUSES),
            _ => return None,
        };
        let known = all.iter().fold(0, |known, (bit, _)| known | bit);
        let names = all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name);
        (bits != 0 && bits & !known == 0).then(|| joined(names, ","))
    }
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
            Expression::Bits { of, mask: u32::MAX, xor } => write!(f, "{of} ^ {xor:#010x}"),
            Expression::Random { modulus, offset } => {
                write!(f, "{} mod {modulus}", self.source().text)?;
                if *offset == 0 { Ok(()) } else { write!(f, " offset {offset}") }
            }
            Expression::MarkFrom(lookup) => lookup.fmt(f),
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
        if *self == NatFlags::default() {
            return Ok(());
        }
        write!(f, " {}", joined(self.each().into_iter().filter(|(set, ..)| *set).map(|(.., name)| name), ","))
    }
}

impl Display for MapLookup {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} map @{}", joined(&self.key, " . "), self.map)
    }
}

impl Display for NatTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let family = |family| if family == types::Family::V4 { "ip" } else { "ip6" };
        match self {
            NatTarget::Address(address, port) => {
                write!(f, "{} to ", family(types::Family::of(*address)))?;
                match port {
                    Some(port) => SocketAddr::new(*address, *port).fmt(f),
                    None => address.fmt(f),
                }
            }
            NatTarget::Port(port) => write!(f, "to :{port}"),
            NatTarget::Map { family: of, lookup, .. } => write!(f, "{} to {lookup}", family(*of)),
        }
    }
}

impl Display for Reject {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Reject::PortUnreachable(types::Family::V4) => "reject with icmp port-unreachable",
            Reject::PortUnreachable(types::Family::V6) => "reject with icmpv6 port-unreachable",
            Reject::AnyPortUnreachable => "reject with icmpx port-unreachable",
            Reject::TcpReset => "reject with tcp reset",
        })
    }
}

impl Display for VerdictMap {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            VerdictMap::Named(name) => write!(f, "@{name}"),
            VerdictMap::Anonymous(elements) => {
                let elements = elements.iter().map(|(key, verdict)| format!("{key} : {verdict}"));
                write!(f, "{{ {} }}", joined(elements, ", "))
            }
        }
    }
}

impl Display for DynamicAction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            DynamicAction::Add => "add",
            DynamicAction::Update => "update",
            DynamicAction::Delete => "delete",
        })
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Statement::Compare {
                left: Expression::Bits { of, mask, xor: 0 },
                op: Comparison::Ne,
                right: Operand::Value(Value::ConnectionState(0)),
            } if let Some(names) = Value::ConnectionState(*mask).bit_names() => write!(f, "{of} {names}"),
            Statement::Compare {
                left: Expression::Bits { of, mask, xor: 0 },
                op: Comparison::Ne,
                right: Operand::Value(Value::ConnectionStatus(0)),
            } if let Some(names) = Value::ConnectionStatus(*mask).bit_names() => write!(f, "{of} {names}"),
            // Without a sign, `nft` takes a set of bits for one that shares a bit.
            Statement::Compare {
                left: bits @ (Expression::Bits { .. } | Expression::ConnectionState | Expression::ConnectionStatus),
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
            Statement::SetPriority(value) => write!(f, "meta priority set {value}"),
            Statement::VerdictFrom { key, map } => write!(f, "{} vmap {map}", joined(key, " . ")),
            Statement::Dynamic { action, set, key, data, timeout } => {
                write!(f, "{action} @{set} {{ {}", joined(key, " . "))?;
                if let Some(timeout) = timeout {
                    write!(f, " timeout {}", Time(*timeout))?;
                }
                if !data.is_empty() {
                    write!(f, " : {}", joined(data, " . "))?;
                }
                f.write_str(" }")
            }
            Statement::Masquerade(flags) => write!(f, "masquerade{flags}"),
            Statement::Nat { side: Side::Source, to, flags } => write!(f, "snat {to}{flags}"),
            Statement::Nat { side: Side::Destination, to, flags } => write!(f, "dnat {to}{flags}"),
            Statement::Reject(what) => what.fmt(f),
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
