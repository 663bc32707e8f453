//! The pods' bridge: the plugin makes it for a node's first pod, and netd puts it back where it is removed under pods that
//! live, with their ports.
//!
//! Pure. A port is known by what the plugin wrote on it (its alias, from which its name follows): the pod is one of ours.

use dataplane::link::{Kind, Link};
use dataplane::monitor::{Event, Object};
use dataplane::op::{DeviceAddress, Op};
use dataplane::types::{IfName, Mtu, PerFamily, Prefix, RouteProtocol};
use netd_cni::attachment::Attachment;
use netd_cni::netlink::mac_for;
use network::observe::Observed;

use crate::conflist::NETWORK;

/// The plugin's name for it.
const NAME: &str = "cni0";

/// Who makes the route of an address.
const KERNEL: RouteProtocol = RouteProtocol(2);

/// What is known of the bridge.
#[derive(Debug, Default)]
pub struct Bridge {
    /// It has carried this node's subnet, so that pods on a bridge that is gone were on ours: another daemon on the host
    /// has pods too.
    carried: bool,
}

impl Bridge {
    /// Takes what the kernel tells; true where the bridge has gone, and [`Bridge::mend`] has to be asked.
    pub fn hear(&mut self, event: &Event, subnets: &PerFamily<Prefix>) -> bool {
        match event {
            Event::New(Object::Route(route)) => {
                let is_subnet = subnets.iter().any(|(_, subnet)| *subnet == route.destination);
                self.carried |= is_subnet && route.gateway.is_none() && route.protocol == KERNEL;
                false
            }
            Event::Deleted(Object::Link(link)) => link.name.as_str() == NAME && link.kind == Kind::Bridge,
            _ => false,
        }
    }

    /// What puts the bridge and its ports back, now that `observed` is what there is. `subnets` are this node's, `mtu` its
    /// pods'.
    pub fn mend(&mut self, observed: &Observed, subnets: &PerFamily<Prefix>, mtu: Mtu) -> Vec<Op> {
        let Ok(name) = NAME.parse::<IfName>() else { return Vec::new() };
        let mut ops = Vec::new();
        if let Some(bridge) = observed.links.get(&name) {
            // With its address, the kernel gives it the subnet's route.
            let carries = bridge.kind == Kind::Bridge
                && observed.routes.iter().any(|route| {
                    let is_subnet = subnets.iter().any(|(_, subnet)| *subnet == route.destination);
                    route.device == name && route.gateway.is_none() && is_subnet
                });
            self.carried |= carries;
            if !carries {
                return Vec::new();
            }
        }
        let orphans: Vec<&IfName> =
            observed.links.values().filter(|link| is_orphan(link)).map(|link| &link.name).collect();
        let gateways: Vec<_> = subnets.iter().filter_map(|(_, subnet)| Some((subnet.nth(1)?, subnet.len()))).collect();
        let Some((first, _)) = gateways.first().filter(|_| self.carried && !orphans.is_empty()) else {
            return Vec::new();
        };
        if !observed.links.contains_key(&name) {
            ops.push(Op::AddBridge { name: name.clone(), mac: mac_for(*first), mtu });
            // Pods must not configure the node.
            let key = format!("net/ipv6/conf/{name}/accept_ra");
            ops.push(Op::SetSysctl { key, value: "0".to_owned() });
            ops.extend(gateways.iter().map(|(address, prefix_len)| {
                let (address, prefix_len) = (*address, *prefix_len);
                Op::AddAddress(DeviceAddress { device: name.clone(), address, prefix_len })
            }));
        }
        for port in orphans {
            ops.push(Op::SetPort { name: port.clone(), bridge: name.clone() });
            // As the plugin makes the ports of netd's own configuration.
            ops.push(Op::SetHairpin(port.clone()));
        }
        ops
    }
}

/// True for a pod's end on the node that is on no bridge. A pod that comes has its bridge before its alias.
fn is_orphan(link: &Link) -> bool {
    let attachment = link.alias.as_deref().and_then(Attachment::from_alias);
    let is_ours = |of: Attachment| of.network.as_str() == NETWORK && of.host_veth() == link.name;
    link.kind == Kind::Veth && link.master.is_none() && attachment.is_some_and(is_ours)
}

#[cfg(test)]
mod tests;
