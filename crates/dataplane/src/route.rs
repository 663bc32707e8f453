//! Routes of the main table: what `ip route` shows, and the requests that add, replace and remove one.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol as Protocol, RouteScope, RouteType, RouteVia,
};

use crate::address::family;
use crate::error::KernelError;
use crate::netlink::{Request, RouteSocket};
use crate::types::{Family, Prefix, RouteProtocol};

/// What becomes of packets that a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RouteKind {
    /// They go on, to the next hop.
    #[default]
    Unicast,
    /// They are dropped without an answer.
    Blackhole,
    /// They are refused: no way there.
    Unreachable,
    /// They are refused: not permitted.
    Prohibit,
    /// The next rule's table decides.
    Throw,
}

impl RouteKind {
    const ALL: [(Self, RouteType, &str); 5] = [
        (Self::Unicast, RouteType::Unicast, "unicast"),
        (Self::Blackhole, RouteType::BlackHole, "blackhole"),
        (Self::Unreachable, RouteType::Unreachable, "unreachable"),
        (Self::Prohibit, RouteType::Prohibit, "prohibit"),
        (Self::Throw, RouteType::Throw, "throw"),
    ];

    /// True where packets go on to a next hop.
    pub fn is_unicast(self) -> bool {
        self == Self::Unicast
    }

    /// As `ip route` writes it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("unicast", |(.., word)| word)
    }

    fn read(of: RouteType) -> Option<Self> {
        Self::ALL.iter().find(|(_, code, _)| *code == of).map(|(kind, ..)| *kind)
    }

    fn code(self) -> RouteType {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(RouteType::Unicast, |(_, code, _)| *code)
    }
}

/// A route with one next hop, or one that lets no packet through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to.
    pub destination: Prefix,
    /// The next hop; `None` where the destination is on the link itself. An IPv4 destination may have an IPv6 next hop.
    pub gateway: Option<IpAddr>,
    /// The index of the link out of which it leads; the loopback's where it leads nowhere.
    pub index: u32,
    /// The next hop counts as on the link, whatever the link's addresses say.
    pub onlink: bool,
    /// Who made it.
    pub protocol: RouteProtocol,
    /// Lower wins among routes to one destination. The kernel gives IPv6 routes 1024 by default.
    pub metric: u32,
    /// Whether packets go on.
    pub kind: RouteKind,
}

/// The loopback's index in every network namespace (`LOOPBACK_IFINDEX`). The kernel itself gives it to IPv6 routes that
/// lead nowhere, and none to those of IPv4.
pub const LOOPBACK: u32 = 1;

impl Route {
    /// The metric that the kernel gives a route by default.
    pub fn default_metric(of: Family) -> u32 {
        match of {
            Family::V4 => 0,
            Family::V6 => 1024,
        }
    }

    /// Reads a route of one next hop from a `RTM_NEWROUTE` or `RTM_DELROUTE`; `None` for other messages, other tables and kinds of
    /// route that [`RouteKind`] does not know.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let destination = Self::destination_in_main_table(message)?;
        let message = changed(message)?;
        let header = &message.header;
        let kind = RouteKind::read(header.kind)?;
        let (mut gateway, mut index, mut metric) = (None, None, 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
                RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::Priority(priority) => metric = *priority,
                _ => {}
            }
        }
        Some(Self {
            destination,
            gateway,
            index: if kind.is_unicast() { index? } else { LOOPBACK },
            onlink: header.flags.contains(RouteFlags::Onlink),
            protocol: RouteProtocol(header.protocol.into()),
            metric,
            kind,
        })
    }

    /// The destination of a route of the main table, of whatever kind; `None` for other messages, other tables and clones.
    pub(crate) fn destination_in_main_table(message: &RouteNetlinkMessage) -> Option<Prefix> {
        let message = changed(message)?;
        let header = &message.header;
        let number = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(number) => Some(*number),
            _ => None,
        });
        let is_main = number.unwrap_or(header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN);
        Self::destination_of(message).filter(|_| is_main && !header.flags.contains(RouteFlags::Cloned))
    }

    /// The destination of a route of any table.
    pub(crate) fn destination_of(message: &RouteMessage) -> Option<Prefix> {
        let of = Family::BOTH.into_iter().find(|of| family(*of) == message.header.address_family)?;
        let mut addresses = message.attributes.iter().filter_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => Some(ip(address)),
            _ => None,
        });
        let destination = addresses.next().unwrap_or(Some(of.unspecified()))?;
        Prefix::new(destination, message.header.destination_prefix_length)
    }

    /// Reads a route of any number of next hops as one route for each.
    fn each_hop(message: &RouteNetlinkMessage) -> Option<Vec<Self>> {
        let RouteNetlinkMessage::NewRoute(route) = message else { return None };
        let hops = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => Some(hops),
            _ => None,
        });
        let Some(hops) = hops else { return Self::from_message(message).map(|route| vec![route]) };
        let alone = |hop: &RouteNextHop| {
            let mut route = route.clone();
            route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::MultiPath(_)));
            route.attributes.extend(hop.attributes.iter().cloned());
            route.attributes.push(RouteAttribute::Oif(hop.interface_index));
            if hop.flags.contains(RouteNextHopFlags::Onlink) {
                route.header.flags |= RouteFlags::Onlink;
            }
            Self::from_message(&RouteNetlinkMessage::NewRoute(route))
        };
        Some(hops.iter().filter_map(alone).collect())
    }

    /// The request that adds the route; refused with `EEXIST` where one of its destination and metric is there.
    pub fn add(&self) -> Request {
        Request::new(RouteNetlinkMessage::NewRoute(self.message()), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// The request that puts the route in the place of whatever has its destination and metric.
    pub fn replace(&self) -> Request {
        Request::new(RouteNetlinkMessage::NewRoute(self.message()), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// The request that removes the route.
    pub fn delete(&self) -> Request {
        Request::new(RouteNetlinkMessage::DelRoute(self.message()), 0)
    }

    fn message(&self) -> RouteMessage {
        let of = self.destination.family();
        let is_unicast = self.kind.is_unicast();
        let is_on_link = self.gateway.is_none() && is_unicast;
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(of),
            destination_prefix_length: self.destination.len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: Protocol::from(self.protocol.0),
            scope: if is_on_link && of == Family::V4 { RouteScope::Link } else { RouteScope::Universe },
            kind: self.kind.code(),
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let gateway = self.gateway.map(|gateway| match gateway {
            IpAddr::V6(v6) if of == Family::V4 => RouteAttribute::Via(RouteVia::Inet6(v6)),
            gateway => RouteAttribute::Gateway(gateway.into()),
        });
        message.attributes.push(RouteAttribute::Destination(self.destination.address().into()));
        message.attributes.extend(gateway);
        message.attributes.extend(is_unicast.then_some(RouteAttribute::Oif(self.index)));
        message.attributes.extend((self.metric != 0).then_some(RouteAttribute::Priority(self.metric)));
        message
    }
}

/// The route that is new or gone.
fn changed(message: &RouteNetlinkMessage) -> Option<&RouteMessage> {
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => Some(route),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn nexthop_object(message: &RouteNetlinkMessage) -> Option<u32> {
    changed(message)?.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::NhId(id) => Some(*id),
        _ => None,
    })
}

fn source(message: &RouteNetlinkMessage) -> Option<IpAddr> {
    changed(message)?.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}

impl RouteSocket {
    /// The routes of the main table, of one family. One of several next hops is as many routes: so the kernel keeps
    /// those of IPv6, and takes them away one by one.
    pub fn routes(&mut self, of: Family) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes_with_sources(of)?.into_iter().map(|(route, _)| route).collect())
    }

    /// The same, with the source address that the kernel prefers for packets that take the route.
    pub fn routes_with_sources(&mut self, of: Family) -> Result<Vec<(Route, Option<IpAddr>)>, KernelError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        let read = self.dump(RouteNetlinkMessage::GetRoute(message), |message| match Route::each_hop(message) {
            Some(hops) => Some(Ok((hops, source(message)))),
            None => Some(Err((nexthop_object(message)?, message.clone()))),
        })?;
        let mut routes = Vec::new();
        for read in read {
            let (hops, source) = match read {
                Ok(read) => read,
                Err((id, message)) => (self.through(id, &message)?.into_iter().collect(), source(&message)),
            };
            routes.extend(hops.into_iter().map(|hop| (hop, source)));
        }
        Ok(routes)
    }

    /// A route by a nexthop object as one with that next hop. With `nexthop_compat_mode` 0 the kernel gives the object's number alone.
    fn through(&mut self, id: u32, message: &RouteNetlinkMessage) -> Result<Option<Route>, KernelError> {
        let (Some(hop), Some(route)) = (self.nexthop(id)?, changed(message)) else { return Ok(None) };
        let mut route = route.clone();
        route.attributes.extend(hop);
        Ok(Route::from_message(&RouteNetlinkMessage::NewRoute(route)))
    }

    /// The source address and the link's index that the kernel would take to reach `destination`.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<(IpAddr, u32)>, KernelError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(Family::of(destination));
        message.header.destination_prefix_length = Family::of(destination).bits();
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let Some(answer) = self.get(RouteNetlinkMessage::GetRoute(message))? else { return Ok(None) };
        let index = changed(&answer).and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(oif) => Some(*oif),
                _ => None,
            })
        });
        Ok(source(&answer).zip(index))
    }
}
