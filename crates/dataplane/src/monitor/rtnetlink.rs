//! Notifications of rtnetlink as events. Pure.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::RouteNetlinkMessage as Message;
use rtnetlink::MulticastGroup;

use super::event::{Event, Object};
use super::netconf::NetconfChange;
use crate::address::Address;
use crate::attribute;
use crate::link::Link;
use crate::neighbour::{Fdb, Neighbour};
use crate::netlink::parse;
use crate::netlink_message::{HEADER_BYTES, message_flags, message_type};
use crate::route::Route;
use crate::types::Prefix;

/// The groups that are joined.
pub(super) const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

/// The object of a message, read from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// A link, or sysctls of one.
    Link,
    /// A route; `None` for a default route.
    Route(Option<Prefix>),
    /// An address, a neighbour or a forwarding entry of the device with this index.
    Device(u32),
}

/// `struct rtmsg`.
const ROUTE_BYTES: usize = 12;
const RTA_DST: u16 = 1;

impl Scope {
    /// `None` for a message that no event is made of.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(HEADER_BYTES..)?;
        Some(match message_type(bytes) {
            // RTM_NEWLINK, RTM_DELLINK, RTM_NEWNETCONF.
            16 | 17 | 80 => Scope::Link,
            // RTM_NEWROUTE, RTM_DELROUTE.
            24 | 25 => Scope::Route(destination(body)),
            // RTM_NEWADDR, RTM_DELADDR, RTM_NEWNEIGH, RTM_DELNEIGH: the index has the same place in both.
            20 | 21 | 28 | 29 => Scope::Device(u32::from_ne_bytes(*body.get(4..)?.first_chunk()?)),
            _ => return None,
        })
    }
}

fn destination(body: &[u8]) -> Option<Prefix> {
    let (_, address) = attribute::iter(body.get(ROUTE_BYTES..)?).find(|(kind, _)| *kind == RTA_DST)?;
    let v4 = <[u8; 4]>::try_from(address).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from)).ok()?;
    Prefix::new(address, *body.get(1)?)
}

/// Reads a message; `None` where no event can express it.
pub(super) fn event(bytes: &[u8]) -> Option<Event> {
    if let Some(change) = NetconfChange::read(bytes) {
        return Some(Event::Netconf(change));
    }
    Some(match parse(bytes).ok()? {
        Message::NewRoute(route) | Message::DelRoute(route) if Route::read(&route).is_none() => {
            return Route::is_of_main_table(&route).then_some(Event::Unparsed);
        }
        Message::NewRoute(route) if message_flags(bytes) & NLM_F_REPLACE != 0 => Event::Replaced(Route::read(&route)?),
        Message::DelLink(link) => Event::Deleted(Object::Link(Box::new(Link::from_message(Message::NewLink(link))?))),
        Message::DelAddress(address) => Event::Deleted(Object::Address(Address::read(&address)?)),
        Message::DelRoute(route) => Event::Deleted(Object::Route(Route::read(&route)?)),
        Message::DelNeighbour(entry) => Event::Deleted(entry_object(&entry)?),
        Message::NewAddress(address) => Event::New(Object::Address(Address::read(&address)?)),
        Message::NewRoute(route) => Event::New(Object::Route(Route::read(&route)?)),
        Message::NewNeighbour(entry) => Event::New(entry_object(&entry)?),
        other => Event::New(Object::Link(Box::new(Link::from_message(other)?))),
    })
}

fn entry_object(entry: &netlink_packet_route::neighbour::NeighbourMessage) -> Option<Object> {
    Neighbour::read(entry).map(Object::Neighbour).or_else(|| Fdb::read(entry).map(Object::Fdb))
}
