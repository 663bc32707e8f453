//! Families, hooks, types, values and verdicts as the kernel's numbers and bytes, both ways. Pure.

use std::net::IpAddr;

use super::abi::{data, verdict, verdict_code};
use super::attributes::{Attributes, text};
use super::expression::Verdict;
use super::table::{ChainType, Hook, TableFamily};
use super::value::{AddressType, Type, Value};
use super::writer::Writer;
use crate::types;

/// `IFNAMSIZ`: an interface name in a key is padded with zeros to this.
pub(super) const IFNAME_BYTES: usize = 16;

impl TableFamily {
    const ALL: [TableFamily; 6] = [
        TableFamily::Inet,
        TableFamily::Ip,
        TableFamily::Arp,
        TableFamily::Netdev,
        TableFamily::Bridge,
        TableFamily::Ip6,
    ];

    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }
}

impl Hook {
    const OF_IP: [Hook; 6] =
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting, Hook::Ingress];

    fn of(family: TableFamily) -> &'static [Hook] {
        match family {
            TableFamily::Inet => &Self::OF_IP,
            TableFamily::Ip | TableFamily::Ip6 | TableFamily::Bridge => &Self::OF_IP[..5],
            TableFamily::Arp => &[Hook::Input, Hook::Output, Hook::Forward],
            TableFamily::Netdev => &[Hook::Ingress, Hook::Egress],
        }
    }

    /// `NF_INET_*`, `NF_BR_*`, `NF_ARP_*` or `NF_NETDEV_*`; `None` where the family has no such hook.
    pub(super) fn number(self, family: TableFamily) -> Option<u32> {
        Self::of(family).iter().position(|hook| *hook == self)?.try_into().ok()
    }

    pub(super) fn from_number(family: TableFamily, number: u32) -> Option<Self> {
        Self::of(family).get(usize::try_from(number).ok()?).copied()
    }
}

impl ChainType {
    /// The kernel's names are those of `nft`.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [ChainType::Filter, ChainType::Nat, ChainType::Route].into_iter().find(|kind| kind.to_string() == name)
    }
}

impl AddressType {
    pub(super) const ALL: [AddressType; 8] = [
        AddressType::Unicast,
        AddressType::Local,
        AddressType::Broadcast,
        AddressType::Anycast,
        AddressType::Multicast,
        AddressType::Blackhole,
        AddressType::Unreachable,
        AddressType::Prohibit,
    ];
}

impl Type {
    const MODELLED: [Type; 12] = [
        Type::Address(types::Family::V4),
        Type::Address(types::Family::V6),
        Type::Protocol,
        Type::Service,
        Type::Mark,
        Type::Priority,
        Type::IfName,
        Type::NetworkProtocol,
        Type::AddressType,
        Type::ConnectionState,
        Type::ConnectionStatus,
        Type::Integer,
    ];

    /// The number by which `nft` knows the type, which fits into six bits for all that we model, its length in bytes, and its
    /// name.
    fn facts(self) -> (u32, usize, &'static str) {
        match self {
            Type::NetworkProtocol => (2, 1, "nf_proto"),
            Type::Integer => (4, 4, "integer"),
            Type::Address(types::Family::V4) => (7, 4, "ipv4_addr"),
            Type::Address(types::Family::V6) => (8, 16, "ipv6_addr"),
            Type::Protocol => (12, 1, "inet_proto"),
            Type::Service => (13, 2, "inet_service"),
            Type::Mark => (19, 4, "mark"),
            Type::Priority => (23, 4, "classid"),
            Type::ConnectionState => (26, 4, "ct_state"),
            Type::ConnectionStatus => (28, 4, "ct_status"),
            Type::AddressType => (38, 4, "fib_addrtype"),
            Type::IfName => (41, IFNAME_BYTES, "ifname"),
            Type::Other { id, bytes } => (id, bytes as usize, ""),
        }
    }

    fn id(self) -> u32 {
        self.facts().0
    }

    /// Length in bytes.
    pub(super) fn bytes(self) -> usize {
        self.facts().1
    }

    /// The name that `nft` has for it.
    pub(super) fn name(self) -> &'static str {
        self.facts().2
    }

    /// True where the first byte weighs most, so that byte order is the order of values and ranges make sense.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Type::Address(_) | Type::Protocol | Type::Service)
    }
}

/// How many bits of a concatenation's type number one field takes (`TYPE_BITS` of `nft`).
const TYPE_BITS: u32 = 6;

/// The number of a type or a concatenation, and its length in bytes.
pub(super) fn joined_type(types: &[Type]) -> (u32, usize) {
    (types.iter().fold(0, |id, kind| id << TYPE_BITS | kind.id()), joined_bytes(types))
}

/// The length in bytes of a type or a concatenation.
pub(super) fn joined_bytes(types: &[Type]) -> usize {
    types.iter().map(|kind| padded(kind.bytes(), types.len())).sum()
}

/// The length of one of several fields: those of a concatenation are padded to four bytes.
fn padded(bytes: usize, fields: usize) -> usize {
    if fields == 1 { bytes } else { bytes.next_multiple_of(4) }
}

/// The types behind a number and a length; one of type [`Type::Other`] where we do not model them all.
pub(super) fn split_type(id: u32, bytes: u32) -> Vec<Type> {
    let rests = std::iter::successors(Some(id), |rest| Some(rest >> TYPE_BITS)).take_while(|rest| *rest != 0);
    let fields = rests.map(|rest| rest & ((1 << TYPE_BITS) - 1));
    let types = fields.map(|field| Type::MODELLED.into_iter().find(|kind| kind.id() == field));
    match types.collect::<Option<Vec<_>>>() {
        // The last field is in the lowest bits.
        Some(mut types) if !types.is_empty() && joined_bytes(&types) == bytes as usize => {
            types.reverse();
            types
        }
        _ => vec![Type::Other { id, bytes }],
    }
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self {
            Value::Address(address) => Type::Address(types::Family::of(*address)),
            Value::Protocol(_) => Type::Protocol,
            Value::Service(_) => Type::Service,
            Value::Mark(_) => Type::Mark,
            Value::Priority(_) => Type::Priority,
            Value::IfName(_) => Type::IfName,
            Value::NetworkProtocol(_) => Type::NetworkProtocol,
            Value::AddressType(_) => Type::AddressType,
            Value::ConnectionState(_) => Type::ConnectionState,
            Value::ConnectionStatus(_) => Type::ConnectionStatus,
            Value::Integer(_) => Type::Integer,
            Value::Bytes(bytes) => Type::Other { id: 0, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
        }
    }

    /// As the kernel holds it in a register.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.push_bytes(&mut bytes);
        bytes
    }

    fn push_bytes(&self, bytes: &mut Vec<u8>) {
        match self {
            Value::Address(IpAddr::V4(v4)) => bytes.extend(v4.octets()),
            Value::Address(IpAddr::V6(v6)) => bytes.extend(v6.octets()),
            Value::Protocol(number) => bytes.push(*number),
            Value::Service(port) => bytes.extend(port.to_be_bytes()),
            Value::Mark(bits)
            | Value::Priority(bits)
            | Value::ConnectionState(bits)
            | Value::ConnectionStatus(bits)
            | Value::Integer(bits) => bytes.extend(bits.to_ne_bytes()),
            Value::IfName(name) => {
                let end = bytes.len() + IFNAME_BYTES;
                bytes.extend(name.as_str().as_bytes());
                bytes.resize(end, 0);
            }
            Value::NetworkProtocol(network) => bytes.push(TableFamily::of_network(*network).number()),
            Value::AddressType(kind) => bytes.extend((*kind as u32).to_ne_bytes()),
            Value::Bytes(plain) => bytes.extend(plain),
        }
    }

    /// Reads a value of `kind`; [`Value::Bytes`] where the bytes are none.
    pub(super) fn from_bytes(kind: Type, bytes: &[u8]) -> Self {
        Self::read(kind, bytes).unwrap_or_else(|| Value::Bytes(bytes.to_vec()))
    }

    fn read(kind: Type, bytes: &[u8]) -> Option<Self> {
        let is_it = |value: &Value| value.to_bytes() == bytes;
        match kind {
            Type::Address(types::Family::V4) => Some(Value::Address(<[u8; 4]>::try_from(bytes).ok()?.into())),
            Type::Address(types::Family::V6) => Some(Value::Address(<[u8; 16]>::try_from(bytes).ok()?.into())),
            Type::Protocol => Some(Value::Protocol(u8::from_be_bytes(bytes.try_into().ok()?))),
            Type::Service => Some(Value::Service(u16::from_be_bytes(bytes.try_into().ok()?))),
            Type::Mark => Some(Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?))),
            Type::Priority => Some(Value::Priority(u32::from_ne_bytes(bytes.try_into().ok()?))),
            Type::ConnectionState => Some(Value::ConnectionState(u32::from_ne_bytes(bytes.try_into().ok()?))),
            Type::ConnectionStatus => Some(Value::ConnectionStatus(u32::from_ne_bytes(bytes.try_into().ok()?))),
            Type::Integer => Some(Value::Integer(u32::from_ne_bytes(bytes.try_into().ok()?))),
            Type::IfName => Some(Value::IfName(text(bytes)?.parse().ok()?)).filter(is_it),
            Type::NetworkProtocol => types::Family::BOTH.map(Value::NetworkProtocol).into_iter().find(is_it),
            Type::AddressType => AddressType::ALL.map(Value::AddressType).into_iter().find(is_it),
            Type::Other { .. } => None,
        }
    }
}

impl Verdict {
    /// Writes the verdict as data.
    pub(super) fn write(&self, writer: &mut Writer) {
        let (code, chain) = match self {
            Verdict::Accept => (verdict_code::ACCEPT, None),
            Verdict::Drop => (verdict_code::DROP, None),
            Verdict::Continue => (verdict_code::CONTINUE, None),
            Verdict::Return => (verdict_code::RETURN, None),
            Verdict::Jump(chain) => (verdict_code::JUMP, Some(chain)),
            Verdict::Goto(chain) => (verdict_code::GOTO, Some(chain)),
        };
        writer.nest(data::VERDICT, |writer| {
            writer.put(verdict::CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                writer.text(verdict::CHAIN, chain);
            }
        });
    }

    /// Reads the verdict in data.
    pub(super) fn read(held: Attributes<'_>) -> Option<Self> {
        let attributes = held.nest(data::VERDICT);
        let chain = || attributes.text(verdict::CHAIN);
        Some(match attributes.number(verdict::CODE)?.cast_signed() {
            verdict_code::ACCEPT => Verdict::Accept,
            verdict_code::DROP => Verdict::Drop,
            verdict_code::CONTINUE => Verdict::Continue,
            verdict_code::RETURN => Verdict::Return,
            verdict_code::JUMP => Verdict::Jump(chain()?),
            verdict_code::GOTO => Verdict::Goto(chain()?),
            _ => return None,
        })
    }
}

/// Concatenated values as the kernel holds them in registers.
pub(super) fn join<'v>(values: impl ExactSizeIterator<Item = &'v Value>) -> Vec<u8> {
    let count = values.len();
    let mut joined = Vec::new();
    for value in values {
        value.push_bytes(&mut joined);
        joined.resize(padded(joined.len(), count), 0);
    }
    joined
}

/// The values in `bytes`, which are of `types`; [`Value::Bytes`] where they do not fit.
pub(super) fn split(types: &[Type], bytes: &[u8]) -> Vec<Value> {
    if joined_bytes(types) != bytes.len() {
        return vec![Value::Bytes(bytes.to_vec())];
    }
    let mut rest = bytes;
    let values = types.iter().map(|kind| {
        let (field, after) = rest.split_at(padded(kind.bytes(), types.len()));
        rest = after;
        Value::from_bytes(*kind, &field[..kind.bytes()])
    });
    values.collect()
}
