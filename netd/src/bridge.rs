//! The pods' bridge: the plugin makes it for a node's first pod, and netd restores it, with its ports, where it is removed under running
//! pods.
//!
//! Pure. A port of ours is known by the alias that the plugin gave it, from which its name follows.

use dataplane::link::{Kind, Link};
use dataplane::monitor::{Event, Object};
use dataplane::op::{DeviceAddress, Op};
use dataplane::types::{IfName, Mtu, PerFamily, Prefix, RouteProtocol};
use netd_cni::attachment::Attachment;
use netd_cni::netlink::mac_for;
use network::observe::Observed;

use crate::conflist::NETWORK;

/// The bridge's name.
const NAME: &str = "cni0";

/// The protocol of the route that comes with an address.
const KERNEL: RouteProtocol = RouteProtocol(2);

/// The state of the bridge.
#[derive(Debug, Default)]
pub struct Bridge {
    /// The bridge has had this node's subnet, so that pods without a bridge were on ours: another daemon on the host has pods too.
    had_subnet: bool,
}

impl Bridge {
    /// Takes a notification of the kernel; true where the bridge is gone, so that [`Bridge::repair`] has to run.
    pub fn notify(&mut self, event: &Event, subnets: &PerFamily<Prefix>) -> bool {
        match event {
            Event::New(Object::Route(route)) => {
                self.had_subnet |=
                    has(subnets, route.destination) && route.gateway.is_none() && route.protocol == KERNEL;
                false
            }
            Event::Deleted(Object::Link(link)) => link.name.as_str() == NAME && link.kind == Kind::Bridge,
            _ => false,
        }
    }

    /// The ops that restore the bridge and its ports. `subnets` are this node's, `mtu` is that of its pods.
    pub fn repair(&mut self, observed: &Observed, subnets: &PerFamily<Prefix>, mtu: Mtu) -> Vec<Op> {
        let Ok(name) = NAME.parse::<IfName>() else { return Vec::new() };
        let mut ops = Vec::new();
        if let Some(bridge) = observed.links.get(&name) {
            // The kernel adds the subnet's route with the bridge's address.
            let has_subnet = bridge.kind == Kind::Bridge
                && observed
                    .routes
                    .iter()
                    .any(|route| route.device == name && route.gateway.is_none() && has(subnets, route.destination));
            self.had_subnet |= has_subnet;
            if !has_subnet {
                return Vec::new();
            }
        }
        let orphans: Vec<&IfName> =
            observed.links.values().filter(|link| is_orphan(link)).map(|link| &link.name).collect();
        let gateways: Vec<_> = subnets.iter().filter_map(|(_, subnet)| Some((subnet.nth(1)?, subnet.len()))).collect();
        let Some((first, _)) = gateways.first().filter(|_| self.had_subnet && !orphans.is_empty()) else {
            return Vec::new();
        };
        if !observed.links.contains_key(&name) {
            ops.push(Op::AddBridge { name: name.clone(), mac: mac_for(*first), mtu });
            // Pods must not configure the node by router advertisements.
            let key = format!("net/ipv6/conf/{name}/accept_ra");
            ops.push(Op::SetSysctl { key, value: "0".to_owned() });
            ops.extend(gateways.iter().map(|&(address, prefix_len)| {
                Op::AddAddress(DeviceAddress { device: name.clone(), address, prefix_len })
            }));
        }
        for port in orphans {
            ops.push(Op::SetPort { name: port.clone(), bridge: name.clone() });
            // The plugin sets the ports of netd's own configuration so.
            ops.push(Op::SetHairpin(port.clone()));
        }
        ops
    }
}

fn has(subnets: &PerFamily<Prefix>, range: Prefix) -> bool {
    subnets.iter().any(|(_, subnet)| *subnet == range)
}

/// True for a pod's interface on the node that is on no bridge. A new pod's interface gets its bridge before its alias.
fn is_orphan(link: &Link) -> bool {
    let attachment = link.alias.as_deref().and_then(Attachment::from_alias);
    let is_ours = |of: Attachment| of.network.as_str() == NETWORK && of.host_veth() == link.name;
    link.kind == Kind::Veth && link.master.is_none() && attachment.is_some_and(is_ours)
}

#[cfg(test)]
mod tests;
