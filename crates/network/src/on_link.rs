//! Which addresses are on the link between the nodes, by the host's own routes.
//!
//! Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use dataplane::route::Route;
use dataplane::types::RouteProtocol;

/// The `rtm_protocol` of our routes: free in `/etc/iproute2/rt_protos` and in the kernel's list.
pub const PROTOCOL: RouteProtocol = RouteProtocol(110);

/// What can be reached on the underlay's link itself.
#[derive(Debug, Clone)]
pub struct OnLink {
    /// Routes of others, the longest prefix first. Within a length those out of the underlay's interface go first, the lowest metric first
    /// of these: routes to peers name that interface, so another one in the same subnet does not matter.
    routes: Vec<Route>,
    underlay: u32,
}

impl OnLink {
    /// From all routes of the main table and the index of the underlay's interface.
    pub fn new(routes: &[Route], underlay: u32) -> Self {
        // A default route without a gateway says that a router answers for all the world, not that a peer is on the link.
        let of_others = |route: &&Route| route.protocol != PROTOCOL && !route.destination.is_default();
        let mut routes: Vec<_> = routes.iter().filter(of_others).copied().collect();
        routes.sort_by_key(|route| (Reverse(route.destination.len()), route.index != underlay, route.metric));
        Self { routes, underlay }
    }

    /// True where the best route to `address` leads out of the underlay's interface without a gateway.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let best = self.routes.iter().find(|route| route.destination.contains(address));
        best.is_some_and(|route| route.gateway.is_none() && route.index == self.underlay)
    }
}

#[cfg(test)]
mod tests;
