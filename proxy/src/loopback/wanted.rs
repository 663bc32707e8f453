//! Which listeners there should be on loopback, and to which endpoints each passes connections on. Pure.
//!
//! A listener is known by its address. Where a node port goes from one Service to another, the listener stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use dataplane::types::Family;
use serde::{Deserialize, Serialize};

use super::backend::Backend;
use crate::model::{PortKey, Protocol, ServicePort};
use crate::topology::{Resolved, Target};

/// Listeners that are new, that have other endpoints, or that should not be any more (`None`).
pub type Changes = BTreeMap<SocketAddr, Option<Backend>>;

/// What becomes of connections to a node port on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnLoopback {
    /// The address and the node port.
    pub address: SocketAddr,
    /// Who takes them.
    pub served: Served,
}

/// Who takes connections on loopback. Displayed as the end of a sentence about the address. In documents the variant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Served {
    /// The proxy, which passes them on.
    Listening,
    /// Nobody: no endpoint takes part.
    NoEndpoint,
    /// Not the proxy: the address cannot be opened.
    Unavailable,
    /// Nobody: the kernel rejects other protocols than TCP.
    Rejected,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Served::Listening => "is passed on by the proxy",
            Served::NoEndpoint => "is refused: no endpoint takes part",
            Served::Unavailable => "cannot be opened by the proxy",
            Served::Rejected => "is rejected: loopback has node ports of TCP alone",
        })
    }
}

/// The service ports that have a listener.
#[derive(Debug)]
pub struct Wanted {
    families: BTreeSet<Family>,
    addresses: BTreeMap<PortKey, SocketAddr>,
}

impl Wanted {
    /// None yet; those of these families will have one.
    pub fn new(families: BTreeSet<Family>) -> Self {
        Self { families, addresses: BTreeMap::new() }
    }

    /// Service ports have changed. Costs as much as they are.
    pub fn update(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>) -> Changes {
        let gone = ports.keys().filter_map(|key| self.addresses.remove(key));
        let mut changes: Changes = gone.map(|address| (address, None)).collect();
        for (key, resolved) in ports {
            let Some((address, backend)) = resolved.as_ref().and_then(|resolved| self.listener(resolved)) else {
                continue;
            };
            self.addresses.insert(key.clone(), address);
            changes.insert(address, Some(backend));
        }
        changes
    }

    /// Without an endpoint there is no listener, so that the kernel refuses connections.
    fn listener(&self, resolved: &Resolved) -> Option<(SocketAddr, Backend)> {
        let port = &resolved.port;
        let address = self.address(port).filter(|_| port.name.protocol == Protocol::Tcp)?;
        let Target::Endpoints(endpoints) = resolved.external() else { return None };
        // The API takes no endpoint on loopback; from files it could lead a listener to itself.
        let endpoints: Box<[_]> = endpoints.iter().copied().filter(|endpoint| !endpoint.ip().is_loopback()).collect();
        let backend = Backend { name: port.name.clone(), endpoints, affinity: port.affinity };
        (!backend.endpoints.is_empty()).then_some((address, backend))
    }

    fn address(&self, port: &ServicePort) -> Option<SocketAddr> {
        let number = port.node_port.filter(|_| self.families.contains(&port.family))?;
        Some(match port.family {
            Family::V4 => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), number),
            Family::V6 => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), number),
        })
    }

    /// What becomes of connections to a service port.
    pub fn state(&self, port: &ServicePort) -> Option<OnLoopback> {
        let served = match port.name.protocol {
            Protocol::Udp | Protocol::Sctp => Served::Rejected,
            Protocol::Tcp if self.addresses.contains_key(&port.key()) => Served::Listening,
            Protocol::Tcp => Served::NoEndpoint,
        };
        Some(OnLoopback { address: self.address(port)?, served })
    }
}

#[cfg(test)]
mod tests;
