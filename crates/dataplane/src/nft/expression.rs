//! What rules are made of: types, values, what is read from a packet, and what is done with it. Pure.
//!
//! These values have the form of what `nft` prints. Registers are a matter of the encoder and the reader.

use std::net::IpAddr;

use serde::Serialize;

use crate::types::{self, IfName, Prefix};

/// The type of a key or of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// `ipv4_addr` or `ipv6_addr`.
    Address(types::Family),
    /// `inet_proto`: a transport protocol.
    Protocol,
    /// `inet_service`: a port.
    Service,
    /// `mark`. Alone in a key or in a map's data, `nft list` prints its bytes reversed: it looks for their order in
    /// userdata, which we do not write. In a concatenation it prints it right.
    Mark,
    /// `ifname`.
    IfName,
    /// `nf_proto`: a packet's network protocol.
    NetworkProtocol,
    /// `fib_addrtype`.
    AddressType,
    /// `ct_state`.
    ConnectionState,
    /// One that is not modelled.
    Other {
        /// The number that its maker gave it. The kernel attaches no meaning to it.
        id: u32,
        /// Length in bytes.
        bytes: u32,
    },
}

/// The type of an address in the routing tables (`RTN_*` of `linux/rtnetlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressType {
    /// Somebody else's.
    Unicast = 1,
    /// This machine's.
    Local,
    /// A broadcast address.
    Broadcast,
    /// An anycast address.
    Anycast,
    /// A multicast address.
    Multicast,
    /// Under a blackhole route.
    Blackhole,
    /// Under an unreachable route.
    Unreachable,
    /// Under a prohibit route.
    Prohibit,
}

/// A value of a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A transport protocol's number.
    Protocol(u8),
    /// A port.
    Service(u16),
    /// A packet mark.
    Mark(u32),
    /// A whole interface name.
    IfName(IfName),
    /// A packet's network protocol.
    NetworkProtocol(types::Family),
    /// What kind of address.
    AddressType(AddressType),
    /// Bits of [`state`].
    ConnectionState(u32),
    /// A value of a type that is not modelled.
    Bytes(Vec<u8>),
}

/// Bits of a connection's state (`NF_CT_STATE_BIT` of `nf_conntrack_common.h`).
pub mod state {
    /// Belongs to no connection.
    pub const INVALID: u32 = 1;
    /// Belongs to a connection that has seen both directions.
    pub const ESTABLISHED: u32 = 2;
    /// Begins a connection that another one announced.
    pub const RELATED: u32 = 4;
    /// Begins a connection.
    pub const NEW: u32 = 8;
    /// Was exempted from tracking.
    pub const UNTRACKED: u32 = 64;
}

/// Protocol numbers (IANA).
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

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
    /// `meta iifname`.
    InputName,
    /// `meta oifname`.
    OutputName,
    /// `ip saddr`, `ip6 daddr`, ... In an `inet` table a comparison of [`Expression::NetworkProtocol`] must come first.
    Address(types::Family, Side),
    /// `th sport`, `th dport`.
    Port(Side),
    /// `fib daddr type`.
    DestinationType,
    /// `ct state`.
    ConnectionState,
    /// `(of & mask) ^ xor` of a mark or a connection's state.
    Bits {
        /// A mark or a connection's state.
        of: Box<Expression>,
        /// The bits that stay.
        mask: u32,
        /// The bits that are turned over afterwards.
        xor: u32,
    },
}

impl Expression {
    /// `self & mask`.
    #[must_use]
    pub fn masked(self, mask: u32) -> Self {
        Self::Bits { of: Box::new(self), mask, xor: 0 }
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

/// How masquerading picks a source port (`NF_NAT_RANGE_*` of `linux/netfilter/nf_nat.h`).
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
    /// Counts packets and bytes. What it has counted is not part of the rule.
    Counter,
    /// `meta mark set`.
    SetMark(Expression),
    /// The packet belongs to no connection.
    NoTrack,
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade(NatFlags),
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
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
