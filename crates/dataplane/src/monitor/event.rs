//! Notifications as values. Pure.

use netlink_packet_route::RouteNetlinkMessage;

use super::netconf::NetconfChange;
use crate::address::Address;
use crate::link::Link;
use crate::neighbour::{Fdb, Neighbour};
use crate::nft::TableChange;
use crate::route::Route;

/// An object of rtnetlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RtnetlinkObject {
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

impl RtnetlinkObject {
    /// Reads an object from the message that it is new or gone; `None` for other messages.
    pub(super) fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let link = || Link::from_message(message).map(Box::new).map(RtnetlinkObject::Link);
        link()
            .or_else(|| Address::from_message(message).map(RtnetlinkObject::Address))
            .or_else(|| Route::from_message(message).map(RtnetlinkObject::Route))
            .or_else(|| Neighbour::from_message(message).map(RtnetlinkObject::Neighbour))
            .or_else(|| Fdb::from_message(message).map(RtnetlinkObject::Fdb))
    }
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The object is new or has changed.
    New(RtnetlinkObject),
    /// The object is gone.
    Deleted(RtnetlinkObject),
    /// The route has taken the place of another one of its destination and metric. The kernel sends no notification of the
    /// other one.
    Replaced(Route),
    /// A sysctl that decides whether packets are forwarded or filtered has been set.
    Netconf(NetconfChange),
    /// A route of the main table has changed that [`Route`] cannot express, such as one of several next hops: routes have to
    /// be read again.
    Unparsed,
    /// A policy rule (`ip rule`) has come or gone.
    Rules,
    /// An object of an nftables table has changed.
    Table(TableChange),
    /// A transaction of nftables is committed. This is the ruleset's generation now.
    Committed {
        /// As [`crate::nft::Socket::generation`] gives it.
        generation: u32,
    },
    /// Notifications were lost.
    Overrun,
}
