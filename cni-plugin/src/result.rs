//! The result of ADD, written in the form of each version of the specification. Pure.

use std::fmt::Display;
use std::net::IpAddr;

use dataplane::types::{Family, Prefix};
use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::cni_error::{CniError, Code};
use crate::version::Version;

/// The result of ADD, or of an earlier plugin. Its fields and those of its parts have the names and types of version 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CniResult {
    /// Links, on the node and in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name resolution.
    #[serde(skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its MTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace that it is in, exactly as the runtime named it; `None` on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// `socketPath` and `pciID`, which only other plugins set; passed on as they are.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ip {
    /// The address with its subnet's length.
    #[serde(serialize_with = "as_text")]
    pub address: IpNetwork,
    /// Its gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of the result's interfaces has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

impl Ip {
    /// The gateway with the subnet's length, as the bridge has it.
    pub fn gateway_on_link(&self) -> Option<IpNetwork> {
        IpNetwork::new(self.gateway?, self.address.prefix()).ok()
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where it leads.
    pub dst: Prefix,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// `mtu`, `advmss`, `priority`, `table` and `scope`, which only other plugins set; passed on as they are.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Route {
    /// A route by its destination and next hop.
    pub fn via(dst: Prefix, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, others: Map::new() }
    }
}

/// Name resolution, handed from the configuration to the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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

    /// The result for stdout, in the form of `version`.
    ///
    /// # Errors
    /// Before 0.3.0, where there is no address.
    pub fn to_json(mut self, version: Version) -> Result<Value, CniError> {
        if version < Version::V1_1_0 {
            for interface in &mut self.interfaces {
                interface.mtu = None;
                interface.others.clear();
            }
            self.routes.iter_mut().for_each(|route| route.others.clear());
        }
        if version < Version::V0_3_0 {
            return self.by_family(version);
        }
        let mut object = json!(self);
        object["cniVersion"] = version.as_str().into();
        if version < Version::V1_0_0 {
            let addresses = object.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten();
            for (address, ip) in addresses.zip(&self.ips) {
                address["version"] = if ip.address.is_ipv4() { "4" } else { "6" }.into();
            }
            // The key is there, empty or not.
            object["dns"] = json!(self.dns);
        }
        Ok(object)
    }

    /// 0.1.0 and 0.2.0: the first address of each family, with the routes of its family.
    fn by_family(&self, version: Version) -> Result<Value, CniError> {
        let mut object = json!({"cniVersion": version.as_str(), "dns": self.dns});
        for (family, key) in Family::BOTH.into_iter().zip(["ip4", "ip6"]) {
            if let Some(ip) = self.ips.iter().find(|ip| Family::of(ip.address.ip()) == family) {
                let routes = self.routes.iter().filter(|route| route.dst.family() == family).collect();
                object[key] = json!(OfFamily { ip: ip.address, gateway: ip.gateway, routes });
            }
        }
        if object.get("ip4").or(object.get("ip6")).is_some() {
            return Ok(object);
        }
        Err(CniError::new(Code::InvalidConfiguration, "cannot convert: no valid IP addresses"))
    }
}

/// `ip4` or `ip6` of 0.1.0 and 0.2.0.
#[derive(Serialize)]
struct OfFamily<'a> {
    #[serde(serialize_with = "as_text")]
    ip: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<&'a Route>,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests;
