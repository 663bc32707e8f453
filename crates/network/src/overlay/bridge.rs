//! The pods' bridge, which the plugin makes for a node's first pod: what the plugin gave it is kept.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::link::{Kind, Link, LinkChange};
use dataplane::op::{DeviceAddress, DeviceRoute};
use dataplane::types::{Family, IfName, Mac, Mtu, RouteProtocol};

use super::{Input, Outcome};

/// The metric of that route over IPv6 (`IP6_RT_PRIO_ADDRCONF`).
const ADDRCONF: u32 = 256;

/// The bridge to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: IfName,
    /// The hardware address that the pods know.
    pub mac: Mac,
    /// Its MTU in bytes where it has to be made. Else the MTU is the plugin's.
    pub mtu: Mtu,
    /// The pods' interfaces on the node that are on this bridge or on none.
    pub ports: BTreeSet<IfName>,
}

impl Bridge {
    /// What makes a link like this bridge; `None` where the link is no bridge.
    pub(crate) fn adjustment(&self, link: &Link) -> Option<LinkChange> {
        (link.kind == Kind::Bridge).then(|| LinkChange {
            up: (!link.up).then_some(true),
            mac: (link.mac != Some(self.mac)).then_some(self.mac),
            ..LinkChange::default()
        })
    }
}

/// Wants the bridge, with this node's gateway addresses and what follows from them.
pub(super) fn want(input: &Input<'_>, outcome: &mut Outcome) {
    let Some(bridge) = input.bridge else { return };
    let (name, desired) = (&bridge.name, &mut outcome.desired);
    desired.sysctls.insert(format!("net/ipv4/conf/{name}/forwarding"), "1".to_owned());
    for (family, subnet) in input.cluster.own.subnets.iter() {
        let Some(gateway) = subnet.nth(1) else { continue };
        let mut address = |address, prefix_len| {
            desired.addresses.insert(DeviceAddress { device: name.clone(), address, prefix_len });
        };
        address(gateway, subnet.len());
        if family == Family::V6 {
            // Without one of its own the kernel asks for no neighbour, so that no pod can be reached over IPv6.
            address(bridge.mac.link_local().into(), 64);
            desired.sysctls.insert(format!("net/ipv6/conf/{name}/disable_ipv6"), "0".to_owned());
        }
        let (protocol, metric) = (RouteProtocol::KERNEL, if family == Family::V6 { ADDRCONF } else { 0 });
        let connected = DeviceRoute { protocol, metric, ..DeviceRoute::new(*subnet, name.clone()) };
        desired.routes.insert(*subnet, connected);
    }
    desired.bridge = Some(Bridge { mtu: outcome.pod_mtu.unwrap_or(bridge.mtu), ..bridge.clone() });
}

/// True for an address that stands for the wanted one: of link-local addresses, any does.
pub(crate) fn serves(address: IpAddr, wanted: IpAddr) -> bool {
    let is_link_local = |address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    address == wanted || is_link_local(address) && is_link_local(wanted)
}
