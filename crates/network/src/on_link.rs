//! Which addresses are on the link between the nodes, by the host's own routes.
//!
//! Pure.

use std::net::IpAddr;

use dataplane::route::Route;
use dataplane::types::RouteProtocol;

/// The `rtm_protocol` of our routes: free in `/etc/iproute2/rt_protos` and in the kernel's list.
pub const PROTOCOL: RouteProtocol = RouteProtocol(110);

/// What can be reached on the underlay's link itself.
#[derive(Debug, Clone)]
pub struct OnLink {
    /// Routes of others, the longest prefix first and the lowest metric first within a length.
    routes: Vec<Route>,
    underlay: u32,
}

impl OnLink {
    /// From all routes of the main table and the index of the underlay's interface.
    pub fn new(routes: &[Route], underlay: u32) -> Self {
        let mut routes: Vec<_> = routes.iter().filter(|route| route.protocol != PROTOCOL).copied().collect();
        routes.sort_by_key(|route| (std::cmp::Reverse(route.destination.len()), route.metric));
        Self { routes, underlay }
    }

    /// True where the best route to `address` leads out of the underlay's interface without a gateway.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let best = self.routes.iter().find(|route| route.destination.contains(address));
        best.is_some_and(|route| route.gateway.is_none() && route.index == self.underlay)
    }
}
