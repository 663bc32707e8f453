//! What rules are made of: types, values, what is read from a packet, and what is done with it. Pure.
//!
//! These values have the form of what `nft` prints. Registers are a matter of the encoder and the reader.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::value::{Key, Value};
use crate::types::{self, IfName, Prefix};

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// What can be read from a packet or made of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expression {
    /// A value that is always the same.
    Value(Value),
    /// `meta nfproto`.
    NetworkProtocol,
    /// `meta l4proto`.
    Protocol,
    /// `meta mark`.
    Mark,
    /// `meta priority`.
    Priority,
    /// `meta iifname`.
    InputName,
    /// `meta oifname`.
    OutputName,
    /// `ip saddr`, `ip6 daddr`, ... In an `inet` table a comparison of [`Expression::NetworkProtocol`] must come first.
    Address(types::Family, Side),
    /// `th sport`, `th dport`.
    Port(Side),
    /// `fib saddr type`.
    SourceType,
    /// `fib daddr type`.
    DestinationType,
    /// `ct state`.
    ConnectionState,
    /// `ct status`.
    ConnectionStatus,
    /// `numgen random mod MODULUS offset OFFSET`: a number from `offset` up to and without `offset + modulus`.
    Random {
        /// How many numbers there are, at least 1.
        modulus: u32,
        /// The lowest number.
        offset: u32,
    },
    /// The mark or the priority that a map holds for a key. It cannot be compared, nor be part of a key.
    MarkFrom(MapLookup),
    /// `(of & mask) ^ xor` of a mark, a connection's state or its status.
    Bits {
        /// A mark, a connection's state or its status.
        of: Box<Expression>,
        /// The bits that stay.
        mask: u32,
        /// The bits that are turned over afterwards.
        xor: u32,
    },
}

/// What a map holds for a key: `KEY map @MAP`. Where the map has no such key, the rule ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapLookup {
    /// One expression per type of the map's key.
    pub key: Vec<Expression>,
    /// The map's name.
    pub map: String,
}

impl MapLookup {
    /// What the map of this name holds for this key.
    pub fn new(key: impl Into<Vec<Expression>>, map: impl Into<String>) -> Self {
        Self { key: key.into(), map: map.into() }
    }
}

impl Expression {
    /// `numgen random mod modulus`: a number below `modulus`.
    pub fn random(modulus: u32) -> Self {
        Self::Random { modulus, offset: 0 }
    }

    /// `self & mask`.
    #[must_use]
    pub fn masked(self, mask: u32) -> Self {
        Self::Bits { of: Box::new(self), mask, xor: 0 }
    }

    /// `self | bits`.
    #[must_use]
    pub fn or(self, bits: u32) -> Self {
        Self::Bits { of: Box::new(self), mask: !bits, xor: bits }
    }

    /// `self ^ bits`.
    #[must_use]
    pub fn xor(self, bits: u32) -> Self {
        Self::Bits { of: Box::new(self), mask: u32::MAX, xor: bits }
    }
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// Is, or is in.
    Eq,
    /// Is not, or is not in.
    Ne,
}

/// What an expression is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// A value that is not an address.
    Value(Value),
    /// One address or a range of them.
    Prefix(Prefix),
    /// Interface names that begin like this one (`cali*`).
    NamesLike(IfName),
}

impl From<Value> for Operand {
    fn from(value: Value) -> Self {
        match value {
            Value::Address(address) => Self::Prefix(Prefix::host(address)),
            other => Self::Value(other),
        }
    }
}

impl From<Prefix> for Operand {
    fn from(prefix: Prefix) -> Self {
        Self::Prefix(prefix)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on to the next base chain.
    Accept,
    /// It is dropped.
    Drop,
    /// On with the next rule.
    Continue,
    /// Back to the chain that jumped here.
    Return,
    /// To another chain, and back at its end.
    Jump(String),
    /// To another chain for good.
    Goto(String),
}

/// How a translation picks a port (`NF_NAT_RANGE_*` of `linux/netfilter/nf_nat.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NatFlags {
    /// Random from a per-host hash.
    pub random: bool,
    /// Random from a generator: fewer clashes where many connections begin at once.
    pub fully_random: bool,
    /// One client gets the same source for each connection.
    pub persistent: bool,
}

impl NatFlags {
    /// Each flag with its bit and its name.
    pub(super) fn each(self) -> [(bool, u32, &'static str); 3] {
        [(self.random, 0x4, "random"), (self.fully_random, 0x10, "fully-random"), (self.persistent, 0x8, "persistent")]
    }
}

/// What addresses and ports are translated to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatTarget {
    /// One address, and one port where it is given: then a comparison of [`Expression::Protocol`] must come first.
    Address(IpAddr, Option<u16>),
    /// One port of whatever address the packet has. A comparison of [`Expression::Protocol`] must come first.
    Port(u16),
    /// What a map holds.
    Map {
        /// The family of the map's addresses.
        family: types::Family,
        /// True where the map holds an address and a port, false where it holds an address alone.
        with_port: bool,
        /// Where to look.
        lookup: MapLookup,
    },
}

/// What the sender of a rejected packet receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// An ICMP error: the port is unreachable. In an `inet` table a comparison of [`Expression::NetworkProtocol`] must come first.
    PortUnreachable(types::Family),
    /// The same in the family of the packet (`icmpx`). Not in tables of one family.
    AnyPortUnreachable,
    /// A TCP reset. A comparison of [`Expression::Protocol`] must come first.
    TcpReset,
}

/// A map of verdicts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerdictMap {
    /// A map of the table.
    Named(String),
    /// A map of the rule's own. [`super::Socket::read_table`] alone reads it; [`super::Socket::read_rules`] gives the name that the kernel
    /// has for it.
    Anonymous(BTreeMap<Key, Verdict>),
}

/// What a rule does with an element of a dynamic set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DynamicAction {
    /// Adds the element. One that is there stays as it is.
    Add,
    /// Adds the element, or lets the timeout of one that is there begin again.
    Update,
    /// Removes the element.
    Delete,
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// The rule goes on where this comparison holds.
    Compare {
        /// What is read.
        left: Expression,
        /// How.
        op: Comparison,
        /// What it should be.
        right: Operand,
    },
    /// The rule goes on where the key is in the set.
    Lookup {
        /// One expression per type of the set's key.
        key: Vec<Expression>,
        /// Whether it must be in or out.
        op: Comparison,
        /// The set's name.
        set: String,
    },
    /// The map decides by the key. Where it has no such key, the rule ends.
    VerdictFrom {
        /// One expression per type of the map's key.
        key: Vec<Expression>,
        /// The map.
        map: VerdictMap,
    },
    /// Changes a dynamic set. Of a map the kernel lets rules add and update elements, not delete.
    Dynamic {
        /// How.
        action: DynamicAction,
        /// The set's name.
        set: String,
        /// One expression per type of the set's key.
        key: Vec<Expression>,
        /// One expression per type of a map's data; none for a set, nor to delete.
        data: Vec<Expression>,
        /// The element's timeout. `None` for that of the set.
        timeout: Option<Duration>,
    },
    /// Counts packets and bytes. What it has counted is not part of the rule.
    Counter,
    /// `meta mark set`.
    SetMark(Expression),
    /// `meta priority set`: to a value, or to what a map holds.
    SetPriority(Expression),
    /// The packet belongs to no connection.
    NoTrack,
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade(NatFlags),
    /// Translates the packet's source (`snat`) or destination (`dnat`).
    Nat {
        /// Which of the two.
        side: Side,
        /// To what.
        to: NatTarget,
        /// How a port is picked.
        flags: NatFlags,
    },
    /// Drops the packet and sends its sender a refusal.
    Reject(Reject),
    /// Decides.
    Verdict(Verdict),
    /// A statement that is not modelled: the kernel's name and its attributes as bytes. It is read and never written.
    Opaque {
        /// The kernel's name.
        name: String,
        /// Its attributes.
        data: Vec<u8>,
    },
}

impl Statement {
    /// Goes on where `left` is `right`.
    pub fn eq(left: Expression, right: impl Into<Operand>) -> Self {
        Self::Compare { left, op: Comparison::Eq, right: right.into() }
    }

    /// Goes on where `left` is not `right`.
    pub fn ne(left: Expression, right: impl Into<Operand>) -> Self {
        Self::Compare { left, op: Comparison::Ne, right: right.into() }
    }

    /// Goes on for packets of this network protocol. Needed in `inet` tables before anything that reads an address.
    pub fn family(family: types::Family) -> Self {
        Self::eq(Expression::NetworkProtocol, Value::NetworkProtocol(family))
    }

    /// Goes on where `key` is in the set.
    pub fn is_in(key: impl Into<Vec<Expression>>, set: impl Into<String>) -> Self {
        Self::Lookup { key: key.into(), op: Comparison::Eq, set: set.into() }
    }

    /// Goes on where `key` is not in the set.
    pub fn is_not_in(key: impl Into<Vec<Expression>>, set: impl Into<String>) -> Self {
        Self::Lookup { key: key.into(), op: Comparison::Ne, set: set.into() }
    }

    /// Translates the destination to the address and port that the map holds.
    pub fn dnat(family: types::Family, key: impl Into<Vec<Expression>>, map: impl Into<String>) -> Self {
        let to = NatTarget::Map { family, with_port: true, lookup: MapLookup::new(key, map) };
        Self::Nat { side: Side::Destination, to, flags: NatFlags::default() }
    }

    /// Decides by the map of this name.
    pub fn vmap(key: impl Into<Vec<Expression>>, map: impl Into<String>) -> Self {
        Self::VerdictFrom { key: key.into(), map: VerdictMap::Named(map.into()) }
    }

    /// Adds an element to a set, or lets its timeout begin again.
    pub fn update(set: impl Into<String>, key: impl Into<Vec<Expression>>, timeout: Duration) -> Self {
        let (action, data) = (DynamicAction::Update, Vec::new());
        Self::Dynamic { action, set: set.into(), key: key.into(), data, timeout: Some(timeout) }
    }

    /// The network protocol that the statement leaves as the only one.
    pub fn network(&self) -> Option<types::Family> {
        match self {
            Self::Compare {
                left: Expression::NetworkProtocol,
                op: Comparison::Eq,
                right: Operand::Value(Value::NetworkProtocol(family)),
            } => Some(*family),
            _ => None,
        }
    }

    /// Goes on where the connection is in one of these states: bits of [`state`].
    pub fn connection_in(states: u32) -> Self {
        Self::ne(Expression::ConnectionState.masked(states), Value::ConnectionState(0))
    }

    /// Goes on where one of these bits of [`status`] is set.
    pub fn connection_has(statuses: u32) -> Self {
        Self::ne(Expression::ConnectionStatus.masked(statuses), Value::ConnectionStatus(0))
    }

    /// The transport protocol that the statement leaves as the only one.
    pub(super) fn transport(&self) -> Option<u8> {
        match self {
            Self::Compare {
                left: Expression::Protocol,
                op: Comparison::Eq,
                right: Operand::Value(Value::Protocol(number)),
            } => Some(*number),
            _ => None,
        }
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
