//! The result of ADD, written in the form of each version of the specification. Pure.

mod write;

use std::net::IpAddr;

use dataplane::types::Prefix;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

pub use write::NoAddress;

/// The result of ADD, or of an earlier plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Links, on the node and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses in the container.
    pub ips: Vec<Ip>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as text.
    pub mac: Option<String>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// The namespace that it is in, exactly as the runtime named it; `None` on the node.
    pub sandbox: Option<String>,
    /// `socketPath` and `pciID`, which only other plugins set; passed on as they are.
    pub others: Map<String, Value>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The address with its subnet's length.
    pub address: IpNetwork,
    /// Its gateway.
    pub gateway: Option<IpAddr>,
    /// Which of the result's interfaces has it.
    pub interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub dst: Prefix,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// `mtu`, `advmss`, `priority`, `table` and `scope`, which only other plugins set; passed on as they are.
    pub others: Map<String, Value>,
}

impl Route {
    /// A route by its destination and next hop.
    pub fn via(dst: Prefix, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, others: Map::new() }
    }
}

/// Name resolution, handed from the configuration to the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Domains to search in.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

impl Dns {
    /// True where no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl CniResult {
    /// This result behind an earlier plugin's: everything of both, the earlier's first.
    #[must_use]
    pub fn after(mut self, earlier: CniResult) -> Self {
        let shift = earlier.interfaces.len();
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|n| n + shift);
        }
        let mut all = earlier;
        all.interfaces.append(&mut self.interfaces);
        all.ips.append(&mut self.ips);
        all.routes.append(&mut self.routes);
        if !self.dns.is_empty() {
            all.dns = self.dns;
        }
        all
    }

    /// The link called `name` in the namespace that the runtime calls `sandbox`, and its place.
    pub fn interface_in(&self, sandbox: &str, name: &str) -> Option<(usize, &Interface)> {
        let is_it = |interface: &&Interface| interface.name == name && interface.sandbox.as_deref() == Some(sandbox);
        self.interfaces.iter().enumerate().find(|(_, interface)| is_it(interface))
    }
}

#[cfg(test)]
mod tests;
