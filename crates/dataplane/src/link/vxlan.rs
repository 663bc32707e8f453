//! VXLAN devices, `ip link add ... type vxlan`: Ethernet frames inside UDP datagrams (RFC 7348).

use std::net::IpAddr;

use netlink_packet_route::link::InfoVxlan;

use crate::types::{IfName, Vni};

/// What cannot be changed of a VXLAN device without making it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: Vni,
    /// The source address of the tunnel's packets.
    pub local: Option<IpAddr>,
    /// The index of the device under it.
    pub underlay: Option<u32>,
    /// The UDP port that it listens on and sends to.
    pub port: u16,
    /// Learns forwarding entries from received packets.
    pub learning: bool,
    /// Carries group policy marks (draft-smith-vxlan-group-policy).
    pub gbp: bool,
    /// Asks user space about unknown layer 2 or 3 destinations, or has a default group: never in ours.
    pub foreign: bool,
}

impl Vxlan {
    /// True where the kernel accepts only one of the two devices: it assigns received packets by VNI, port and IP family.
    ///
    /// One without a local address, and without a group of the other family, is of IPv4.
    pub fn shares_socket(&self, other: &Self) -> bool {
        let key = |vxlan: &Self| (vxlan.vni, vxlan.port, vxlan.local.is_some_and(|local| local.is_ipv6()));
        key(self) == key(other)
    }

    pub(super) fn ip_link_type(&self, underlay: &IfName) -> String {
        let local = self.local.map(|local| format!(" local {local}")).unwrap_or_default();
        let learning = if self.learning { "learning" } else { "nolearning" };
        let gbp = if self.gbp { " gbp" } else { "" };
        format!("type vxlan id {} dev {underlay}{local} dstport {} {learning}{gbp}", self.vni, self.port)
    }

    /// `None` where the kernel gives no VNI that a device can have.
    pub(super) fn read(data: &[InfoVxlan]) -> Option<Self> {
        let mut vni = None;
        let (mut local, mut underlay, mut port) = (None, None, 0);
        let (mut learning, mut gbp, mut foreign) = (false, false, false);
        for info in data {
            match info {
                InfoVxlan::Id(id) => vni = Vni::try_from(i64::from(*id)).ok(),
                InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
                InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
                InfoVxlan::Link(index) => underlay = Some(*index),
                InfoVxlan::Port(number) => port = *number,
                InfoVxlan::Learning(on) => learning = *on,
                InfoVxlan::Gbp => gbp = true,
                InfoVxlan::L2Miss(true) | InfoVxlan::L3Miss(true) | InfoVxlan::CollectMetadata(true) => foreign = true,
                InfoVxlan::Group(group) => foreign |= !group.is_unspecified(),
                InfoVxlan::Group6(group) => foreign |= !group.is_unspecified(),
                _ => {}
            }
        }
        Some(Self { vni: vni?, local, underlay, port, learning, gbp, foreign })
    }

    pub(super) fn data(&self) -> Vec<InfoVxlan> {
        let mut data =
            vec![InfoVxlan::Id(self.vni.get()), InfoVxlan::Port(self.port), InfoVxlan::Learning(self.learning)];
        data.extend(self.local.map(|local| match local {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        }));
        data.extend(self.underlay.map(InfoVxlan::Link));
        data.extend(self.gbp.then_some(InfoVxlan::Gbp));
        data
    }
}
