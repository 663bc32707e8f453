//! A result as JSON, in the form of the version that was asked for.

use dataplane::types::Family;
use serde_json::{Map, Value, json};

use super::{CniResult, Dns, Interface, Ip, Route};
use crate::version::Version;

/// A result without an address has no form before 0.3.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot convert: no valid IP addresses")]
pub struct NoAddress;

impl CniResult {
    /// The result for stdout.
    ///
    /// # Errors
    /// Before 0.3.0, where there is no address.
    pub fn to_json(&self, version: Version) -> Result<Value, NoAddress> {
        if version < Version::V0_3_0 {
            return self.by_family(version);
        }
        let mut object = Map::new();
        let lists = [
            ("interfaces", self.interfaces.iter().map(|interface| interface_json(interface, version)).collect()),
            ("ips", self.ips.iter().map(|ip| ip_json(ip, version)).collect()),
            ("routes", self.routes.iter().map(|route| route_json(route, version)).collect()),
        ];
        object.insert("cniVersion".to_owned(), version.as_str().into());
        object.extend(
            lists
                .into_iter()
                .filter(|(_, items): &(_, Vec<_>)| !items.is_empty())
                .map(|(key, items)| (key.to_owned(), items.into())),
        );
        // The key is there, empty or not, in every version before 1.0.0.
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            object.insert("dns".to_owned(), dns_json(&self.dns));
        }
        Ok(object.into())
    }

    /// 0.1.0 and 0.2.0: the first address of each family, with the routes of its family.
    fn by_family(&self, version: Version) -> Result<Value, NoAddress> {
        let mut object = json!({"cniVersion": version.as_str(), "dns": dns_json(&self.dns)});
        for (family, key) in Family::BOTH.into_iter().zip(["ip4", "ip6"]) {
            let Some(ip) = self.ips.iter().find(|ip| Family::of(ip.address.ip()) == family) else { continue };
            let routes = self.routes.iter().filter(|route| route.dst.family() == family);
            let routes: Vec<_> = routes.map(|route| route_json(route, version)).collect();
            object[key] = ip_fields(ip);
            object[key]["ip"] = object[key]["address"].take();
            if let Some(fields) = object[key].as_object_mut() {
                fields.remove("address");
            }
            if !routes.is_empty() {
                object[key]["routes"] = routes.into();
            }
        }
        if object.get("ip4").or(object.get("ip6")).is_none() { Err(NoAddress) } else { Ok(object) }
    }
}

fn interface_json(interface: &Interface, version: Version) -> Value {
    let mut object = json!({"name": interface.name});
    if let Some(mac) = &interface.mac {
        object["mac"] = mac.as_str().into();
    }
    if let Some(sandbox) = &interface.sandbox {
        object["sandbox"] = sandbox.as_str().into();
    }
    if version >= Version::V1_1_0 {
        if let Some(mtu) = interface.mtu {
            object["mtu"] = mtu.into();
        }
        interface.others.iter().for_each(|(key, value)| object[key] = value.clone());
    }
    object
}

fn ip_json(ip: &Ip, version: Version) -> Value {
    let mut object = ip_fields(ip);
    if version < Version::V1_0_0 {
        object["version"] = if ip.address.is_ipv4() { "4" } else { "6" }.into();
    }
    if let Some(interface) = ip.interface {
        object["interface"] = interface.into();
    }
    object
}

fn ip_fields(ip: &Ip) -> Value {
    let mut object = json!({"address": ip.address.to_string()});
    if let Some(gateway) = ip.gateway {
        object["gateway"] = gateway.to_string().into();
    }
    object
}

fn route_json(route: &Route, version: Version) -> Value {
    let mut object = json!({"dst": route.dst.to_string()});
    if let Some(gw) = route.gw {
        object["gw"] = gw.to_string().into();
    }
    if version >= Version::V1_1_0 {
        route.others.iter().for_each(|(key, value)| object[key] = value.clone());
    }
    object
}

fn dns_json(dns: &Dns) -> Value {
    let mut object = Map::new();
    for (key, texts) in [("nameservers", &dns.nameservers), ("search", &dns.search), ("options", &dns.options)] {
        if !texts.is_empty() {
            object.insert(key.to_owned(), texts.as_slice().into());
        }
    }
    if !dns.domain.is_empty() {
        object.insert("domain".to_owned(), dns.domain.as_str().into());
    }
    object.into()
}
