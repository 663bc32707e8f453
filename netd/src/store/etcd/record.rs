//! A node's record in etcd: flannel's key, which contains the subnets, and flannel's JSON value, with netd's fields behind flannel's.
//! Flannel ignores unknown fields.
//!
//! Pure. A key is `10.1.5.0-24` or `10.1.5.0-24&fd00:1:2:3::-64`; a node without IPv4 pods has `0.0.0.0-0` as the first half.

use std::net::{IpAddr, Ipv4Addr};

use dataplane::types::{Family, PerFamily, Prefix};
use network::caseless::Object;
use network::model::{BackendData, Lease, NodeName};
use network::record::{self, EncapsulationRecord, RecordError};
use serde::Serialize;

/// The key of the network configuration, below the prefix.
pub(super) const CONFIG: &str = "config";
/// What the keys of nodes begin with, below the prefix.
pub(super) const SUBNETS: &str = "subnets/";

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeRecord {
    /// The node's name; `None` in flannel's records.
    pub(super) node: Option<NodeName>,
    /// The node's public addresses; flannel recognises its own record by the IPv4 address.
    pub(super) public: PerFamily<IpAddr>,
    /// The node's lease; `None` for a reservation.
    pub(super) lease: Option<Lease>,
}

/// Flannel's fields as Go writes them: no spaces, `PublicIPv6` always present, absent backend fields omitted.
#[derive(Default, Serialize)]
struct NodeValue<'a> {
    #[serde(rename = "PublicIP")]
    public_ip: Option<IpAddr>,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<IpAddr>,
    #[serde(rename = "BackendType", skip_serializing_if = "Option::is_none")]
    backend_type: Option<&'a str>,
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    backend_data: Option<&'a BackendData>,
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    backend_v6_data: Option<&'a BackendData>,
    // netd's fields.
    #[serde(rename = "Node", skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(rename = "Receives", skip_serializing_if = "Option::is_none")]
    receives: Option<Vec<EncapsulationRecord<'a>>>,
    #[serde(rename = "Sends", skip_serializing_if = "Option::is_none")]
    sends: Option<Vec<EncapsulationRecord<'a>>>,
}

impl NodeValue<'_> {
    /// A reservation as flannel documents it: a subnet for the node with this address.
    fn reservation(public: PerFamily<IpAddr>) -> Self {
        Self { public_ip: public.v4.or(Some(Ipv4Addr::UNSPECIFIED.into())), public_ipv6: public.v6, ..Self::default() }
    }

    fn text(&self) -> String {
        // serde_json fails only for maps with keys other than strings and for failing fields. There are none here.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The key of a node with these subnets, below `subnets/`.
pub(super) fn key(subnets: PerFamily<Prefix>) -> String {
    let v4 = subnets.v4.map_or("0.0.0.0-0".to_owned(), dashed);
    match subnets.v6 {
        Some(v6) => format!("{v4}&{}", dashed(v6)),
        None => v4,
    }
}

fn dashed(subnet: Prefix) -> String {
    format!("{}-{}", subnet.address(), subnet.len())
}

/// The subnets in a key below `subnets/`; `None` for a foreign key. Flannel accepts subnets up to /31 and /127.
pub(super) fn subnets(key: &str) -> Option<PerFamily<Prefix>> {
    let (v4, v6) = key.split_once('&').map_or((key, None), |(v4, v6)| (v4, Some(v6)));
    let v4 = subnet(v4, Family::V4)?;
    let v6 = match v6 {
        Some(v6) => Some(subnet(v6, Family::V6)?),
        None => None,
    };
    let subnets = PerFamily { v4: Some(v4).filter(|v4| !v4.is_default()), v6: v6.filter(|v6| !v6.is_default()) };
    Some(subnets).filter(|subnets| !subnets.is_empty())
}

/// One half of a key.
fn subnet(half: &str, family: Family) -> Option<Prefix> {
    let (address, len) = half.split_once('-')?;
    let address: IpAddr = address.parse().ok()?;
    let len = len.parse().ok().filter(|_| len.bytes().all(|byte| byte.is_ascii_digit()))?;
    Prefix::new(address, len).filter(|_| Family::of(address) == family && len < family.bits())
}

/// The value of a lease.
pub(super) fn render(lease: &Lease) -> String {
    NodeValue {
        backend_type: Some(lease.backend.as_str()),
        backend_data: lease.data.v4.as_ref(),
        backend_v6_data: lease.data.v6.as_ref(),
        node: Some(lease.node.as_str()),
        receives: lease.encapsulations.as_ref().map(record::received),
        sends: lease.encapsulations.as_ref().map(record::sent),
        ..NodeValue::reservation(lease.public)
    }
    .text()
}

/// The value of a reservation.
pub(super) fn render_reservation(public: PerFamily<IpAddr>) -> String {
    NodeValue::reservation(public).text()
}

/// Parses a value.
pub(super) fn parse(subnets: PerFamily<Prefix>, value: &[u8]) -> Result<NodeRecord, RecordError> {
    record::check_size(value.len())?;
    let mut object: Object = serde_json::from_slice(value)?;
    let public = record::public(&mut object)?;
    if public.is_empty() {
        return Err(RecordError::Missing("PublicIP or PublicIPv6"));
    }
    let node: Option<String> = object.take("Node", "a node's name")?;
    let node: Option<NodeName> = node.and_then(|name| name.parse().ok());
    // A reservation names no backend, or an empty one.
    let backend = record::backend(&mut object)?.filter(|backend| !backend.as_str().is_empty());
    let lease = match backend {
        None => None,
        Some(backend) => {
            let data = record::take_data(&mut object, &backend)?;
            let encapsulations = record::encapsulations(&mut object)?;
            let node = node.clone().unwrap_or_else(|| address_as_name(public));
            Some(Lease { node, subnets, public, backend, data, encapsulations })
        }
    };
    Ok(NodeRecord { node, public, lease })
}

/// The name of a node whose record names none: its address.
fn address_as_name(public: PerFamily<IpAddr>) -> NodeName {
    let address = public.v4.or(public.v6).map(|address| address.to_string()).unwrap_or_default();
    let name = address.replace("::", "--").replace(':', "-");
    // Addresses consist of digits, hexadecimal letters, dots and dashes, all of which are valid in names.
    name.parse().or_else(|_| format!("node-{name}").parse()).unwrap_or_else(|_| unreachable!("{name} is a name"))
}

#[cfg(test)]
mod tests;
