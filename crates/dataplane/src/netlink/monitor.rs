//! What changes in the kernel, as it changes: links, addresses, routes, neighbours, forwarding entries and some sysctls.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::MulticastGroup;

use super::netconf::NetconfChange;
use super::{KernelError, dump, message_flags, messages};
use crate::address::Address;
use crate::link::Link;
use crate::neighbour::{Fdb, Neighbour};
use crate::netlink_socket::{NetlinkSocket, Received};
use crate::route::Route;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A link, as it is now or was last.
    Link(Box<Link>),
    /// An address.
    Address(Address),
    /// A route of the main table.
    Route(Route),
    /// A neighbour entry.
    Neighbour(Neighbour),
    /// A forwarding entry of a VXLAN device.
    Fdb(Fdb),
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The object is new or has changed.
    New(Subject),
    /// The object is gone.
    Deleted(Subject),
    /// The route has taken the place of another one of its destination and metric, of which nothing else is told.
    Replaced(Route),
    /// A sysctl that lets packets through, or not, has been set.
    Netconf(NetconfChange),
    /// Some route of the main table has changed that cannot be shown here, such as one of several next hops: routes have to
    /// be read again.
    Unparsed,
    /// Notifications were lost: whatever was known has to be read again.
    Overrun,
}

/// A socket that hears every change in the namespace that it was opened in. Never blocks; wait on its descriptor.
#[derive(Debug)]
pub struct Monitor {
    inner: NetlinkSocket,
}

impl Monitor {
    /// Opens one in the calling thread's network namespace.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { inner: NetlinkSocket::multicast(NETLINK_ROUTE, GROUPS.map(|group| group as u32))? })
    }

    /// The notifications that wait now, at most one datagram of them; `None` where none waits.
    pub fn next_events(&mut self) -> Result<Option<Vec<Event>>, KernelError> {
        Ok(match self.inner.receive(0)? {
            Received::Some(datagram) => Some(messages(datagram).filter_map(event).collect()),
            Received::Lost => Some(vec![Event::Overrun]),
            Received::Nothing => None,
        })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.inner.as_fd()
    }
}

fn event(bytes: &[u8]) -> Option<Event> {
    if let Some(tuning) = NetconfChange::read(bytes) {
        return Some(Event::Netconf(tuning));
    }
    let message = dump::parse(bytes).ok()?;
    Some(match message {
        Message::NewRoute(route) | Message::DelRoute(route) if Route::read(&route).is_none() => {
            return Route::is_of_main_table(&route).then_some(Event::Unparsed);
        }
        Message::NewRoute(route) if message_flags(bytes) & NLM_F_REPLACE != 0 => Event::Replaced(Route::read(&route)?),
        Message::DelLink(link) => Event::Deleted(Subject::Link(Box::new(Link::from_message(Message::NewLink(link))?))),
        Message::DelAddress(address) => Event::Deleted(Subject::Address(Address::read(&address)?)),
        Message::DelRoute(route) => Event::Deleted(Subject::Route(Route::read(&route)?)),
        Message::DelNeighbour(entry) => Event::Deleted(entry_subject(&entry)?),
        Message::NewAddress(address) => Event::New(Subject::Address(Address::read(&address)?)),
        Message::NewRoute(route) => Event::New(Subject::Route(Route::read(&route)?)),
        Message::NewNeighbour(entry) => Event::New(entry_subject(&entry)?),
        other => Event::New(Subject::Link(Box::new(Link::from_message(other)?))),
    })
}

fn entry_subject(entry: &netlink_packet_route::neighbour::NeighbourMessage) -> Option<Subject> {
    Neighbour::read(entry).map(Subject::Neighbour).or_else(|| Fdb::read(entry).map(Subject::Fdb))
}
