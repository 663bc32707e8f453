//! The route to a peer's pods, and the entries that it needs in the kernel.
//!
//! Pure.

use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{Family, IfName, Mac, Prefix};

use super::Encapsulation;
use crate::on_link::PROTOCOL;

/// The route to a peer's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerRoute {
    /// In what encapsulation packets travel.
    pub encapsulation: Encapsulation,
    /// The peer's address of the underlay: the end of the tunnel, or the next hop on the shared link.
    pub endpoint: IpAddr,
    /// The hardware address of the peer's tunnel end, where the encapsulation needs it.
    pub mac: Option<Mac>,
}

impl PeerRoute {
    /// True for a plain route.
    pub fn is_direct(&self) -> bool {
        self.encapsulation.is_direct()
    }

    /// How many bytes of the underlay's MTU the headers take.
    pub fn overhead(&self) -> u32 {
        self.encapsulation.overhead(Family::of(self.endpoint))
    }
}

/// The entries for one peer's pods of one family.
pub(crate) struct Entries {
    pub(crate) route: DeviceRoute,
    /// The neighbour and the tunnel end, for tunnels whose packets need them.
    pub(crate) tunnel: Option<(NeighbourEntry, TunnelEnd)>,
}

type NeighbourEntry = ((IfName, IpAddr), Mac);
type TunnelEnd = ((IfName, Mac), IpAddr);

impl Entries {
    /// A route to `subnet` alone. An `onlink` next hop counts as on the link, whatever the device's addresses say.
    pub(crate) fn by(subnet: Prefix, gateway: IpAddr, device: IfName, onlink: bool) -> Self {
        let (gateway, protocol, metric) = (Some(gateway), PROTOCOL, Route::default_metric(subnet.family()));
        let kind = RouteKind::Unicast;
        let route = DeviceRoute { destination: subnet, gateway, device, onlink, protocol, metric, kind };
        Self { route, tunnel: None }
    }
}
