//! Types, values, and the keys that are made of them. Pure.

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
    /// `classid`: a packet's priority.
    Priority,
    /// `ifname`.
    IfName,
    /// `nf_proto`: a packet's network protocol.
    NetworkProtocol,
    /// `fib_addrtype`.
    AddressType,
    /// `ct_state`.
    ConnectionState,
    /// `ct_status`.
    ConnectionStatus,
    /// `integer` of four bytes, as [`Expression::Random`] gives it. `nft` has no word for it: a set with such a key is declared by
    /// `typeof`.
    Integer,
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
    /// A packet's priority, which `nft` prints like a class of tc(8).
    Priority(u32),
    /// A whole interface name.
    IfName(IfName),
    /// A packet's network protocol.
    NetworkProtocol(types::Family),
    /// What kind of address.
    AddressType(AddressType),
    /// Bits of [`state`].
    ConnectionState(u32),
    /// Bits of [`status`].
    ConnectionStatus(u32),
    /// A number.
    Integer(u32),
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

/// Bits of what happened to a connection (`IPS_*` of `nf_conntrack_common.h`).
pub mod status {
    /// Its source is translated.
    pub const SNAT: u32 = 0x10;
    /// Its destination is translated.
    pub const DNAT: u32 = 0x20;
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

/// The values from `first` to `last`, both of one type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The lowest.
    pub first: Value,
    /// The highest; the same as `first` for a single value.
    pub last: Value,
}

impl From<Value> for Interval {
    fn from(value: Value) -> Self {
        Self { first: value.clone(), last: value }
    }
}

impl From<Prefix> for Interval {
    fn from(prefix: Prefix) -> Self {
        let end = |number| Value::Address(types::address(prefix.family(), number));
        Self { first: end(prefix.first()), last: end(prefix.last()) }
    }
}

/// The key of an element: one interval per concatenated type; none for the element that stands for all other keys (`*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<Interval>);

impl<I: Into<Interval>> FromIterator<I> for Key {
    fn from_iter<T: IntoIterator<Item = I>>(intervals: T) -> Self {
        Self(intervals.into_iter().map(Into::into).collect())
    }
}

impl<I: Into<Interval>> From<I> for Key {
    fn from(interval: I) -> Self {
        Self(vec![interval.into()])
    }
}
