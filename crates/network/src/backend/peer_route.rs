//! The route to a peer's pods, and the entries that it needs in the kernel.
//!
//! Pure.

use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::route::Route;
use dataplane::types::{Family, IfName, Mac, Prefix, Vni};

use super::{BackendType, Encapsulation};
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

/// Why there is no route to a peer's pods of a family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPeerRoute {
    /// The peer runs another backend.
    #[error("it runs backend {theirs}, this node {ours}: set one Backend.Type for all nodes")]
    OtherBackend {
        /// The peer's backend.
        theirs: BackendType,
        /// Ours.
        ours: BackendType,
    },
    /// The peer has published what it receives, and this encapsulation is not in it.
    #[error(
        "it does not receive by {0}, and this node sends by nothing that it receives: set one Backend for all nodes"
    )]
    NotReceived(Encapsulation),
    /// This node has not published yet that it sends by this encapsulation.
    #[error("this node has not published yet that it sends by {0}")]
    NotPublished(Encapsulation),
    /// The peer has no address of the underlay's family that the tunnel has.
    #[error("it has published no {0} address, which this node's tunnel needs")]
    NoPublicAddress(Family),
    /// Plain routes need a link that both are on: none of these addresses is.
    #[error("no address of it is on-link ({0}) and host-gw needs that: put both on one segment or use vxlan")]
    NotOnLink(String),
    /// The kernel routes IPv4 over an IPv6 next hop, but not the other way round.
    #[error(
        "IPv6 pods cannot be reached over its IPv4 address with plain routes: give nodes IPv6 addresses or use vxlan"
    )]
    NoIpv6NextHop,
    /// The peer has not published its tunnel end for pods of this family.
    #[error("it has published no VXLAN device for {0} pods")]
    NoTunnelEnd(Family),
    /// The tunnels do not belong together.
    #[error("its VNI is {theirs}, this node's {ours}: set one VNI for all nodes")]
    OtherVni {
        /// The peer's.
        theirs: Vni,
        /// Ours.
        ours: Vni,
    },
    /// This node has no ipip device for the pods' family.
    #[error("this node has no ipip device for {0} pods: ipip carries IPv4 over IPv4, and the kernel must have it")]
    NoIpipDevice(Family),
}

impl NoPeerRoute {
    /// True where the peer is reached as soon as this node has published that it sends so.
    pub fn awaits_publication(&self) -> bool {
        matches!(self, NoPeerRoute::NotPublished(_))
    }

    /// False for what ends by itself when every node has changed its backend.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, NoPeerRoute::NotReceived(_) | NoPeerRoute::NotPublished(_))
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
        let route = DeviceRoute { gateway, onlink, protocol, metric, ..DeviceRoute::new(subnet, device) };
        Self { route, tunnel: None }
    }
}
