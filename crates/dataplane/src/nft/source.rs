//! What an expression is read from: one row for each, with its type, what `nft` calls it, and how the kernel loads it. Pure.

use super::abi::{ct, ct_key, fib, fib_flag, fib_result, meta, meta_key, numgen, numgen_type, payload, payload_base};
use super::attributes::Attributes;
use super::expression::{Expression, Side};
use super::value::Type;
use crate::types::Family::{self, V4, V6};

/// Where the value of an expression comes from.
pub(super) struct Source {
    /// The words of `nft`; none for a constant.
    pub(super) text: &'static str,
    /// The type of the value.
    pub(super) kind: Type,
    /// The kernel's expression that loads the value.
    pub(super) name: &'static str,
    /// The attributes of the kernel's expression, without the register and without a length.
    pub(super) attributes: &'static [(u16, u32)],
}

/// The kernel's expression for bytes of a packet. It alone has a length.
pub(super) const PAYLOAD: &str = "payload";
/// The kernel's expression for a constant and for a verdict.
pub(super) const IMMEDIATE: &str = "immediate";
/// The kernel's expression for generated numbers.
pub(super) const NUMGEN: &str = "numgen";
/// The kernel's expression for what a set or a map has for a key.
pub(super) const LOOKUP: &str = "lookup";

impl Expression {
    /// The source of what the expression begins with.
    ///
    /// The offsets are those of RFC 791 section 3.1 and RFC 8200 section 3, and for ports those of TCP, UDP, SCTP and DCCP.
    pub(super) fn source(&self) -> Source {
        use Expression::{
            Address, Bits, ConnectionState, ConnectionStatus, DestinationType, InputName, Mark, MarkFrom,
            NetworkProtocol, OutputName, Port, Priority, Protocol, Random, SourceType,
        };
        const NETWORK: (u16, u32) = (payload::BASE, payload_base::NETWORK_HEADER);
        const TRANSPORT: (u16, u32) = (payload::BASE, payload_base::TRANSPORT_HEADER);
        const RESULT: (u16, u32) = (fib::RESULT, fib_result::ADDRTYPE);
        let (text, kind, name, attributes): (_, _, _, &[_]) = match self {
            Expression::Value(value) => ("", value.kind(), IMMEDIATE, &[]),
            // The numbers are written and read apart.
            Random { .. } => ("numgen random", Type::Integer, NUMGEN, &[(numgen::TYPE, numgen_type::RANDOM)]),
            MarkFrom(_) => ("", Type::Mark, LOOKUP, &[]),
            Bits { of, .. } => return of.source(),
            NetworkProtocol => ("meta nfproto", Type::NetworkProtocol, "meta", &[(meta::KEY, meta_key::NFPROTO)]),
            Protocol => ("meta l4proto", Type::Protocol, "meta", &[(meta::KEY, meta_key::L4PROTO)]),
            Mark => ("meta mark", Type::Mark, "meta", &[(meta::KEY, meta_key::MARK)]),
            Priority => ("meta priority", Type::Priority, "meta", &[(meta::KEY, meta_key::PRIORITY)]),
            InputName => ("iifname", Type::IfName, "meta", &[(meta::KEY, meta_key::IIFNAME)]),
            OutputName => ("oifname", Type::IfName, "meta", &[(meta::KEY, meta_key::OIFNAME)]),
            Address(V4, Side::Source) => ("ip saddr", Type::Address(V4), PAYLOAD, &[NETWORK, (payload::OFFSET, 12)]),
            Address(V4, Side::Destination) => {
                ("ip daddr", Type::Address(V4), PAYLOAD, &[NETWORK, (payload::OFFSET, 16)])
            }
            Address(V6, Side::Source) => ("ip6 saddr", Type::Address(V6), PAYLOAD, &[NETWORK, (payload::OFFSET, 8)]),
            Address(V6, Side::Destination) => {
                ("ip6 daddr", Type::Address(V6), PAYLOAD, &[NETWORK, (payload::OFFSET, 24)])
            }
            Port(Side::Source) => ("th sport", Type::Service, PAYLOAD, &[TRANSPORT, (payload::OFFSET, 0)]),
            Port(Side::Destination) => ("th dport", Type::Service, PAYLOAD, &[TRANSPORT, (payload::OFFSET, 2)]),
            SourceType => ("fib saddr type", Type::AddressType, "fib", &[RESULT, (fib::FLAGS, fib_flag::SADDR)]),
            DestinationType => ("fib daddr type", Type::AddressType, "fib", &[RESULT, (fib::FLAGS, fib_flag::DADDR)]),
            ConnectionState => ("ct state", Type::ConnectionState, "ct", &[(ct::KEY, ct_key::STATE)]),
            ConnectionStatus => ("ct status", Type::ConnectionStatus, "ct", &[(ct::KEY, ct_key::STATUS)]),
        };
        Source { text, kind, name, attributes }
    }

    /// The type of what it gives.
    pub fn kind(&self) -> Type {
        self.source().kind
    }

    /// The expression that an expression of the kernel's loads, whatever the length; `None` where it is not modelled.
    pub(super) fn loaded_by(name: &str, attributes: Attributes<'_>) -> Option<Self> {
        let sides = [Side::Source, Side::Destination];
        let addresses = Family::BOTH.into_iter().flat_map(|family| sides.map(|side| Self::Address(family, side)));
        let meta =
            [Self::NetworkProtocol, Self::Protocol, Self::Mark, Self::Priority, Self::InputName, Self::OutputName];
        let others = [Self::SourceType, Self::DestinationType, Self::ConnectionState, Self::ConnectionStatus];
        let random = || {
            let offset = attributes.number(numgen::OFFSET).unwrap_or(0);
            Some(Self::Random { modulus: attributes.number(numgen::MODULUS)?, offset })
        };
        let mut all = meta.into_iter().chain(random()).chain(others).chain(sides.map(Self::Port)).chain(addresses);
        all.find(|expression| {
            let source = expression.source();
            let mut fixed = source.attributes.iter();
            source.name == name && fixed.all(|(kind, number)| attributes.number(*kind) == Some(*number))
        })
    }
}
