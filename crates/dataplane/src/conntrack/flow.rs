//! Flows and selections of flows, as values and as attributes (`linux/netfilter/nfnetlink_conntrack.h`). Pure.

use std::net::{IpAddr, SocketAddr};

use crate::netlink_message::HEADER_BYTES;
use crate::nft::attributes::Attributes;
use crate::nft::writer::Writer;
use crate::types::Family;

/// `struct nfgenmsg`.
const FAMILY_HEADER_BYTES: usize = 4;

/// `CTA_*`.
mod attribute {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const COUNTERS_ORIG: u16 = 9;
    pub(super) const COUNTERS_REPLY: u16 = 10;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    pub(super) const FILTER_ORIG_FLAGS: u16 = 1;
}

/// `CTA_TUPLE_*`.
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTO: u16 = 2;
}

/// `CTA_PROTO_*`.
mod proto {
    pub(super) const NUM: u16 = 1;
    pub(super) const SRC_PORT: u16 = 2;
    pub(super) const DST_PORT: u16 = 3;
}

/// `CTA_COUNTERS_*`.
mod counters {
    pub(super) const PACKETS: u16 = 1;
    pub(super) const BYTES: u16 = 2;
}

/// `CTA_FILTER_FLAG`: what of a tuple selects.
mod filter {
    pub(super) const IP_DST: u32 = 1 << 1;
    pub(super) const PROTO_NUM: u32 = 1 << 3;
    pub(super) const PROTO_DST_PORT: u32 = 1 << 5;
}

/// `AF_INET` or `AF_INET6`.
pub(super) fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// `CTA_IP_V4_SRC`, `CTA_IP_V6_SRC`; the destination follows.
fn source_attribute(family: Family) -> u16 {
    if family == Family::V4 { 1 } else { 3 }
}

/// The packets of one direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Where they come from. The port is 0 for protocols without ports.
    pub source: SocketAddr,
    /// Where they go to.
    pub destination: SocketAddr,
    /// The transport protocol's number.
    pub protocol: u8,
}

/// One tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The packets from the one that began it, before any translation.
    pub original: Tuple,
    /// The answers. They come from where the original packets go to after translation.
    pub reply: Tuple,
    /// Bits of `IPS_*` (`linux/netfilter/nf_conntrack_common.h`): [`crate::nft::status`] has some of them.
    pub status: u32,
    /// The zone; 0 where there are none.
    pub zone: u16,
    /// The kernel's number for it.
    pub id: u32,
    /// Its packets of both directions, and their bytes with IP headers; 0 unless the sysctl `net.netfilter.nf_conntrack_acct` was 1 when
    /// it began.
    pub packets: u64,
    /// See `packets`.
    pub bytes: u64,
}

/// Some flows of one family, by the destination of their original packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// All flows of a protocol.
    Protocol {
        /// The family.
        family: Family,
        /// The transport protocol's number.
        protocol: u8,
    },
    /// Flows to one address and port.
    Destination {
        /// Address and port.
        to: SocketAddr,
        /// The transport protocol's number.
        protocol: u8,
    },
    /// Flows to one port, whatever the address: those of a node port.
    Port {
        /// The family.
        family: Family,
        /// The transport protocol's number.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

impl Tuple {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.source.ip())
    }

    fn write(&self, writer: &mut Writer, kind: u16) {
        writer.nest(kind, |writer| {
            let first = source_attribute(self.family());
            writer.nest(tuple::IP, |writer| {
                write_address(writer, first, self.source.ip());
                write_address(writer, first + 1, self.destination.ip());
            });
            writer.nest(tuple::PROTO, |writer| {
                writer.put(proto::NUM, &[self.protocol]);
                writer.put(proto::SRC_PORT, &self.source.port().to_be_bytes());
                writer.put(proto::DST_PORT, &self.destination.port().to_be_bytes());
            });
        });
    }

    fn read(attributes: Attributes<'_>) -> Option<Self> {
        let (ip, transport) = (attributes.nest(tuple::IP), attributes.nest(tuple::PROTO));
        let address = |offset: u16| {
            let v4 = || Some(<[u8; 4]>::try_from(ip.get(1 + offset)?).ok()?.into());
            v4().or_else(|| Some(<[u8; 16]>::try_from(ip.get(3 + offset)?).ok()?.into()))
        };
        let port = |kind| {
            let bytes = transport.get(kind).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u16::from_be_bytes)
        };
        Some(Self {
            source: SocketAddr::new(address(0)?, port(proto::SRC_PORT)),
            destination: SocketAddr::new(address(1)?, port(proto::DST_PORT)),
            protocol: *transport.get(proto::NUM)?.first()?,
        })
    }
}

fn write_address(writer: &mut Writer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => writer.put(kind, &v4.octets()),
        IpAddr::V6(v6) => writer.put(kind, &v6.octets()),
    }
}

impl Flow {
    /// Reads a message about a flow; `None` for other messages.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let attributes = Attributes(message.get(HEADER_BYTES + FAMILY_HEADER_BYTES..)?);
        let zone = attributes.get(attribute::ZONE).and_then(|bytes| bytes.try_into().ok());
        let directions = [attribute::COUNTERS_ORIG, attribute::COUNTERS_REPLY].map(|kind| attributes.nest(kind));
        let total = |kind| {
            let counted = directions.iter().filter_map(|direction| direction.get(kind)?.try_into().ok());
            counted.map(u64::from_be_bytes).sum()
        };
        Some(Self {
            original: Tuple::read(attributes.nest(attribute::TUPLE_ORIG))?,
            reply: Tuple::read(attributes.nest(attribute::TUPLE_REPLY))?,
            status: attributes.number(attribute::STATUS).unwrap_or(0),
            zone: zone.map_or(0, u16::from_be_bytes),
            id: attributes.number(attribute::ID).unwrap_or(0),
            packets: total(counters::PACKETS),
            bytes: total(counters::BYTES),
        })
    }

    /// Writes what names this flow and no other.
    pub(super) fn write(&self, writer: &mut Writer) {
        self.original.write(writer, attribute::TUPLE_ORIG);
        if self.zone != 0 {
            writer.put(attribute::ZONE, &self.zone.to_be_bytes());
        }
        writer.number(attribute::ID, self.id);
    }
}

impl Selector {
    /// The family of the flows.
    pub fn family(&self) -> Family {
        match self {
            Selector::Protocol { family, .. } | Selector::Port { family, .. } => *family,
            Selector::Destination { to, .. } => Family::of(to.ip()),
        }
    }

    /// Address, protocol and port, each where it selects.
    fn parts(&self) -> (Option<IpAddr>, u8, Option<u16>) {
        match *self {
            Selector::Protocol { protocol, .. } => (None, protocol, None),
            Selector::Destination { to, protocol } => (Some(to.ip()), protocol, Some(to.port())),
            Selector::Port { protocol, port, .. } => (None, protocol, Some(port)),
        }
    }

    /// True where the kernel's filter selects these flows alone. Of flows to one address of IPv6 it selects the others
    /// (`ctnetlink_filter_match_tuple` of Linux 6.18 negates the comparison), so that the address is left out.
    pub(super) fn is_exact_in_kernel(&self) -> bool {
        !matches!(self, Selector::Destination { to, .. } if to.is_ipv6())
    }

    /// True where the flow is selected.
    pub fn matches(&self, Flow { original, .. }: &Flow) -> bool {
        let (address, protocol, port) = self.parts();
        original.family() == self.family()
            && original.protocol == protocol
            && address.is_none_or(|address| address == original.destination.ip())
            && port.is_none_or(|port| port == original.destination.port())
    }

    /// Writes the selection: the parts of a tuple, and which of them count.
    pub(super) fn write(&self, writer: &mut Writer) {
        let (address, protocol, port) = self.parts();
        let address = address.filter(|_| self.is_exact_in_kernel());
        writer.nest(attribute::TUPLE_ORIG, |writer| {
            if let Some(address) = address {
                let kind = source_attribute(self.family()) + 1;
                writer.nest(tuple::IP, |writer| write_address(writer, kind, address));
            }
            writer.nest(tuple::PROTO, |writer| {
                writer.put(proto::NUM, &[protocol]);
                if let Some(port) = port {
                    writer.put(proto::DST_PORT, &port.to_be_bytes());
                }
            });
        });
        let flags =
            [(address.is_some(), filter::IP_DST), (true, filter::PROTO_NUM), (port.is_some(), filter::PROTO_DST_PORT)];
        let flags: u32 = flags.into_iter().filter_map(|(counts, flag)| counts.then_some(flag)).sum();
        // Unlike nearly all of nfnetlink, in the host's byte order.
        writer.nest(attribute::FILTER, |writer| writer.put(attribute::FILTER_ORIG_FLAGS, &flags.to_ne_bytes()));
    }
}
