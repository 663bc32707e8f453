//! The connections to each endpoint that the kernel tracks now, and their packets and bytes.
//!
//! Rules without counters cost packets nothing. Connection tracking knows which Service a connection was for, and counts by itself where
//! the sysctl `net.netfilter.nf_conntrack_acct` is 1. Connections that have ended are not in it.

use std::collections::HashMap;
use std::net::SocketAddr;

use dataplane::conntrack::{Conntrack, Flow, Selector};
use dataplane::error::KernelError;
use dataplane::types::Family;
use serde::{Deserialize, Serialize};

use super::Listing;
use crate::model::Protocol;

/// What goes through one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections that the kernel tracks.
    pub connections: u64,
    /// Their packets, both directions; 0 where the kernel does not count.
    pub packets: u64,
    /// The bytes of these packets, IP headers included.
    pub bytes: u64,
}

/// Reads the kernel's connections in the network namespace of the calling thread, and adds to each endpoint what goes through it.
///
/// # Errors
/// Where the kernel does not list them: they are root's to read.
pub fn count(listing: &mut Listing) -> Result<(), KernelError> {
    let mut conntrack = Conntrack::open()?;
    let mut flows = Vec::new();
    for family in [Family::V4, Family::V6] {
        for protocol in Protocol::ALL {
            flows.extend(conntrack.dump(&Selector::Protocol { family, protocol: protocol.number() })?);
        }
    }
    add(listing, &flows);
    Ok(())
}

/// Adds flows to the endpoints that answer them. A flow is a Service port's by the address and port that it was sent to, else by the node
/// port; one that was sent to an endpoint itself is none's.
fn add(listing: &mut Listing, flows: &[Flow]) {
    let (mut by_address, mut by_node_port) = (HashMap::new(), HashMap::new());
    let mut through = HashMap::<(usize, SocketAddr), Traffic>::new();
    for (place, port) in listing.services.iter().enumerate() {
        for address in &port.addresses {
            by_address.insert((port.protocol.as_str(), *address), place);
        }
        if let Some(number) = port.node_port {
            by_node_port.insert((port.protocol.as_str(), port.family.as_str(), number), place);
        }
    }
    for flow in flows {
        let to = flow.original.destination;
        if to == flow.reply.source {
            continue;
        }
        let number = flow.original.protocol;
        let Some(protocol) = Protocol::ALL.into_iter().find(|protocol| protocol.number() == number) else { continue };
        let protocol = protocol.to_string();
        let family = Family::of(to.ip()).to_string();
        let place = by_address.get(&(protocol.as_str(), to));
        let Some(place) = place.or_else(|| by_node_port.get(&(protocol.as_str(), family.as_str(), to.port()))) else {
            continue;
        };
        let traffic = through.entry((*place, flow.reply.source)).or_default();
        traffic.connections += 1;
        traffic.packets += flow.packets;
        traffic.bytes += flow.bytes;
    }
    for (place, port) in listing.services.iter_mut().enumerate() {
        for endpoint in &mut port.endpoints {
            endpoint.traffic = Some(through.get(&(place, endpoint.address)).copied().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
