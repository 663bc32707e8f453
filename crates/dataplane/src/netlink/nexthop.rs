//! Nexthop objects (`ip nexthop`), which a route may name by their number alone.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_route::route::{RouteAddress, RouteAttribute};

use super::RouteSocket;
use crate::attribute;
use crate::error::KernelError;
use crate::netlink_message::HEADER_BYTES;

const RTM_GETNEXTHOP: u16 = 106;
/// `struct nhmsg`.
const BODY_BYTES: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;

/// The next hop of an object, or the number of a group's first member.
#[derive(Debug, Default, PartialEq, Eq)]
struct Nexthop {
    hop: Vec<RouteAttribute>,
    member: Option<u32>,
}

impl RouteSocket {
    /// The attributes that a route by this object would have otherwise; of a group those of its first member. `None` where there is no
    /// such object.
    pub(crate) fn nexthop(&mut self, id: u32) -> Result<Option<Vec<RouteAttribute>>, KernelError> {
        let Some(found) = self.read_nexthop(id)? else { return Ok(None) };
        // A group has no groups as members.
        Ok(match found.member {
            Some(member) => self.read_nexthop(member)?.map(|found| found.hop),
            None => Some(found.hop),
        })
    }

    fn read_nexthop(&mut self, id: u32) -> Result<Option<Nexthop>, KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.inner.send(&request(id, self.sequence))?;
        match self.entries(&|message: &[u8]| Ok(Some(parse(message)))) {
            Err(error) if error.is_missing() => Ok(None),
            entries => Ok(entries?.and_then(|mut entries| entries.pop())),
        }
    }
}

fn request(id: u32, sequence: u32) -> Vec<u8> {
    let attribute_bytes: u16 = 8;
    let length = HEADER_BYTES + BODY_BYTES + usize::from(attribute_bytes);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend(RTM_GETNEXTHOP.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4 + BODY_BYTES]);
    bytes.extend(attribute_bytes.to_ne_bytes());
    bytes.extend(NHA_ID.to_ne_bytes());
    bytes.extend(id.to_ne_bytes());
    bytes
}

/// Reads one whole message. Never panics.
fn parse(message: &[u8]) -> Nexthop {
    let mut nexthop = Nexthop::default();
    for (kind, value) in attribute::iter(message.get(HEADER_BYTES + BODY_BYTES..).unwrap_or_default()) {
        let number = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match kind {
            NHA_GROUP => nexthop.member = number,
            NHA_OIF => nexthop.hop.extend(number.map(RouteAttribute::Oif)),
            NHA_GATEWAY => nexthop.hop.extend(gateway(value).map(RouteAttribute::Gateway)),
            _ => {}
        }
    }
    nexthop
}

fn gateway(value: &[u8]) -> Option<RouteAddress> {
    let v4 = <[u8; 4]>::try_from(value).map(|octets| RouteAddress::Inet(octets.into()));
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(|octets| RouteAddress::Inet6(octets.into()))).ok()
}

#[cfg(test)]
mod tests;
