//! The pods of a network that are on the node, as the kernel has them: no file is read.

use dataplane::link;
use dataplane::netlink::RouteSocket;
use dataplane::types::IfName;
use nix::libc::EINVAL;

use super::step;
use crate::attachment::{Attachment, Id, Port};
use crate::cni_error::CniError;

/// Reads the ports of the bridge, also those that other programs have made, and the network's other ones.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn read(host: &mut RouteSocket, bridge: &IfName, network: &Id) -> Result<Vec<Port>, CniError> {
    let bridge = link::index_of(bridge);
    let mut ports = Vec::new();
    for (link, namespace) in host.veths().map_err(step("read the links"))? {
        let attachment = link.alias.as_deref().and_then(Attachment::from_alias);
        let attachment = attachment.filter(|attachment| attachment.host_veth() == link.name);
        let is_port = link.master.is_some() && link.master == bridge;
        if is_port || attachment.as_ref().is_some_and(|attachment| attachment.network == *network) {
            let addresses = match host.addresses_beyond(namespace, link.lower.unwrap_or(0)) {
                // The kernel knows no namespace of this number: the pod has just gone.
                Err(error) if error.errno() == Some(EINVAL) => Vec::new(),
                read => read.map_err(step(format_args!("read the addresses behind {}", link.name)))?,
            };
            let addresses = addresses.iter().filter(|address| address.global).map(|address| address.address).collect();
            ports.push(Port { name: link.name, attachment, addresses });
        }
    }
    Ok(ports)
}
