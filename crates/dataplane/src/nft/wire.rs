//! Families, hooks, types and values as the kernel's numbers and bytes, both ways. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expression::{AddressType, Type, Value};
use super::table::{ChainType, Family, Hook};
use crate::types;

/// `IFNAMSIZ`: an interface name in a key is padded with zeros to this.
pub(super) const IFNAME_BYTES: usize = 16;

impl Family {
    const ALL: [Family; 6] = [Family::Inet, Family::Ip, Family::Arp, Family::Netdev, Family::Bridge, Family::Ip6];

    /// `NFPROTO_*` of `linux/netfilter.h`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Arp => 3,
            Family::Netdev => 5,
            Family::Bridge => 7,
            Family::Ip6 => 10,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }
}

/// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
pub(super) fn network_protocol(family: types::Family) -> u8 {
    match family {
        types::Family::V4 => Family::Ip.number(),
        types::Family::V6 => Family::Ip6.number(),
    }
}

impl Hook {
    const OF_IP: [Hook; 6] =
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting, Hook::Ingress];

    fn of(family: Family) -> &'static [Hook] {
        match family {
            Family::Inet => &Self::OF_IP,
            Family::Ip | Family::Ip6 | Family::Bridge => &Self::OF_IP[..5],
            Family::Arp => &[Hook::Input, Hook::Output, Hook::Forward],
            Family::Netdev => &[Hook::Ingress, Hook::Egress],
        }
    }

    /// `NF_INET_*`, `NF_BR_*`, `NF_ARP_*` or `NF_NETDEV_*`; `None` where the family has no such hook.
    pub(super) fn number(self, family: Family) -> Option<u32> {
        Self::of(family).iter().position(|hook| *hook == self)?.try_into().ok()
    }

    pub(super) fn from_number(family: Family, number: u32) -> Option<Self> {
        Self::of(family).get(usize::try_from(number).ok()?).copied()
    }
}

impl ChainType {
    /// The kernel's name, which is that of `nft` too.
    pub fn name(self) -> &'static str {
        match self {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [ChainType::Filter, ChainType::Nat, ChainType::Route].into_iter().find(|kind| kind.name() == name)
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
    const MODELLED: [Type; 9] = [
        Type::Address(types::Family::V4),
        Type::Address(types::Family::V6),
        Type::Protocol,
        Type::Service,
        Type::Mark,
        Type::IfName,
        Type::NetworkProtocol,
        Type::AddressType,
        Type::ConnectionState,
    ];

    /// The number by which `nft` knows the type. It fits into six bits for all that we model.
    pub(super) fn id(self) -> u32 {
        match self {
            Type::NetworkProtocol => 2,
            Type::Address(types::Family::V4) => 7,
            Type::Address(types::Family::V6) => 8,
            Type::Protocol => 12,
            Type::Service => 13,
            Type::Mark => 19,
            Type::ConnectionState => 26,
            Type::AddressType => 38,
            Type::IfName => 41,
            Type::Other { id, .. } => id,
        }
    }

    /// Length in bytes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Type::NetworkProtocol | Type::Protocol => 1,
            Type::Service => 2,
            Type::Address(types::Family::V4) | Type::Mark | Type::ConnectionState | Type::AddressType => 4,
            Type::Address(types::Family::V6) | Type::IfName => 16,
            Type::Other { bytes, .. } => bytes as usize,
        }
    }

    /// True where the first byte weighs most, so that byte order is the order of values and ranges make sense.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Type::Address(_) | Type::Protocol | Type::Service)
    }

    fn from_id(id: u32) -> Option<Self> {
        Self::MODELLED.into_iter().find(|kind| kind.id() == id)
    }
}

/// How many bits of a concatenation's type number one field takes (`TYPE_BITS` of `nft`).
const TYPE_BITS: u32 = 6;

/// The number of a type or a concatenation, and its length in bytes.
pub(super) fn joined_type(types: &[Type]) -> (u32, u32) {
    let id = types.iter().fold(0u32, |id, kind| id.checked_shl(TYPE_BITS).unwrap_or(0) | kind.id());
    (id, u32::try_from(joined_bytes(types)).unwrap_or(u32::MAX))
}

/// The length in bytes of a type or a concatenation, whose fields are padded to four bytes.
pub(super) fn joined_bytes(types: &[Type]) -> usize {
    match types {
        [one] => one.bytes(),
        several => several.iter().map(|kind| kind.bytes().next_multiple_of(4)).sum(),
    }
}

/// The types behind a number and a length; one of type [`Type::Other`] where we do not model them all.
pub(super) fn split_type(id: u32, bytes: u32) -> Vec<Type> {
    let mut types = Vec::new();
    let mut rest = id;
    while rest != 0 {
        match Type::from_id(rest & ((1 << TYPE_BITS) - 1)) {
            Some(kind) => types.insert(0, kind),
            None => return vec![Type::Other { id, bytes }],
        }
        rest >>= TYPE_BITS;
    }
    if !types.is_empty() && joined_bytes(&types) == bytes as usize { types } else { vec![Type::Other { id, bytes }] }
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self {
            Value::Address(address) => Type::Address(types::Family::of(*address)),
            Value::Protocol(_) => Type::Protocol,
            Value::Service(_) => Type::Service,
            Value::Mark(_) => Type::Mark,
            Value::IfName(_) => Type::IfName,
            Value::NetworkProtocol(_) => Type::NetworkProtocol,
            Value::AddressType(_) => Type::AddressType,
            Value::ConnectionState(_) => Type::ConnectionState,
            Value::Bytes(bytes) => Type::Other { id: 0, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
        }
    }

    /// As the kernel holds it in a register.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Value::Address(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Value::Address(IpAddr::V6(v6)) => v6.octets().to_vec(),
            Value::Protocol(number) => vec![*number],
            Value::Service(port) => port.to_be_bytes().to_vec(),
            Value::Mark(bits) | Value::ConnectionState(bits) => bits.to_ne_bytes().to_vec(),
            Value::IfName(name) => {
                let mut bytes = name.as_str().as_bytes().to_vec();
                bytes.resize(IFNAME_BYTES, 0);
                bytes
            }
            Value::NetworkProtocol(family) => vec![network_protocol(*family)],
            Value::AddressType(kind) => (*kind as u32).to_ne_bytes().to_vec(),
            Value::Bytes(bytes) => bytes.clone(),
        }
    }

    /// Reads a value of `kind`; [`Value::Bytes`] where the bytes are none.
    pub(super) fn from_bytes(kind: Type, bytes: &[u8]) -> Self {
        Self::read(kind, bytes).unwrap_or_else(|| Value::Bytes(bytes.to_vec()))
    }

    fn read(kind: Type, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            Type::Address(types::Family::V4) => Value::Address(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            Type::Address(types::Family::V6) => {
                Value::Address(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
            }
            Type::Protocol => Value::Protocol(<[u8; 1]>::try_from(bytes).ok()?[0]),
            Type::Service => Value::Service(u16::from_be_bytes(bytes.try_into().ok()?)),
            Type::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Type::ConnectionState => Value::ConnectionState(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Type::IfName => {
                let padded = <[u8; IFNAME_BYTES]>::try_from(bytes).ok()?;
                let end = padded.iter().position(|byte| *byte == 0)?;
                let (name, padding) = padded.split_at(end);
                padding.iter().all(|byte| *byte == 0).then_some(())?;
                Value::IfName(std::str::from_utf8(name).ok()?.parse().ok()?)
            }
            Type::NetworkProtocol => {
                let [number] = bytes.try_into().ok()?;
                let family = types::Family::BOTH.into_iter().find(|family| network_protocol(*family) == number)?;
                Value::NetworkProtocol(family)
            }
            Type::AddressType => {
                let number = u32::from_ne_bytes(bytes.try_into().ok()?);
                Value::AddressType(AddressType::ALL.into_iter().find(|kind| *kind as u32 == number)?)
            }
            Type::Other { .. } => return None,
        })
    }
}

/// Concatenated values as the kernel holds them in registers.
pub(super) fn join<'v>(values: impl ExactSizeIterator<Item = &'v Value>) -> Vec<u8> {
    let alone = values.len() == 1;
    let mut joined = Vec::new();
    for value in values {
        joined.extend(value.to_bytes());
        if !alone {
            joined.resize(joined.len().next_multiple_of(4), 0);
        }
    }
    joined
}

/// The values in `bytes`, which are of `types`; [`Value::Bytes`] where they do not fit.
pub(super) fn split(types: &[Type], bytes: &[u8]) -> Vec<Value> {
    if let [one] = types {
        return vec![Value::from_bytes(*one, bytes)];
    }
    let mut rest = bytes;
    let mut values = Vec::new();
    for kind in types {
        let Some((field, after)) = rest.split_at_checked(kind.bytes().next_multiple_of(4)) else {
            return vec![Value::Bytes(bytes.to_vec())];
        };
        values.push(Value::from_bytes(*kind, &field[..kind.bytes()]));
        rest = after;
    }
    values
}
