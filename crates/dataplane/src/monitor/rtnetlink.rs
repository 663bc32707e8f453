//! Notifications of rtnetlink as events. Pure.

use netlink_packet_core::{NLM_F_REPLACE, NetlinkBuffer};
use netlink_packet_route::RouteNetlinkMessage as Message;
use rtnetlink::MulticastGroup;

use super::event::{Event, RtnetlinkObject};
use super::filter::Filter;
use super::netconf::NetconfChange;
use crate::netlink::parse;
use crate::route::Route;

/// The groups that are joined.
pub(super) const GROUPS: [MulticastGroup; 10] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

impl Filter {
    /// Reads a message of rtnetlink; `None` where it is not wanted, or where no event can express it.
    pub(super) fn rtnetlink_event(&self, bytes: &[u8]) -> Option<Event> {
        if let Some(change) = NetconfChange::read(bytes) {
            return self.links.then_some(Event::Netconf(change));
        }
        let message = parse(bytes).ok()?;
        if matches!(message, Message::NewRule(_) | Message::DelRule(_)) {
            return self.rules.then_some(Event::Rules);
        }
        let Some(object) = RtnetlinkObject::from_message(&message) else {
            let destination = Route::destination_in_main_table(&message)?;
            return self.wants_route(destination).then_some(Event::Unparsed);
        };
        if !self.wants(&object) {
            return None;
        }
        Some(match (object, message) {
            (
                object,
                Message::DelLink(_) | Message::DelAddress(_) | Message::DelRoute(_) | Message::DelNeighbour(_),
            ) => Event::Deleted(object),
            (RtnetlinkObject::Route(route), _) if NetlinkBuffer::new(bytes).flags() & NLM_F_REPLACE != 0 => {
                Event::Replaced(route)
            }
            (object, _) => Event::New(object),
        })
    }
}
