//! A lease as JSON: flannel's etcd value with the subnets added, which flannel has in the key.
//!
//! Pure. Keys are read in any case; unknown ones are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::types::{Family, Mac, PerFamily, Prefix, Vni};
use serde::Serialize;

use crate::caseless::{FieldError, Object};
use crate::model::{BackendType, Encapsulation, EncapsulationSupport, Lease, NodeName, TunnelId, Vtep};

/// Why a text is no lease.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON object, or not a whole one.
    #[error("it holds no complete JSON object")]
    Syntax(#[from] serde_json::Error),
    /// A field does not hold what it must.
    #[error("a field is wrong")]
    Field(#[from] FieldError),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// The fields in the order in which they are written. `None` is `null`.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(rename = "Subnet")]
    subnet: Option<Prefix>,
    #[serde(rename = "IPv6Subnet")]
    ipv6_subnet: Option<Prefix>,
    #[serde(rename = "PublicIP")]
    public_ip: Option<IpAddr>,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<IpAddr>,
    #[serde(rename = "BackendType")]
    backend_type: &'a str,
    #[serde(rename = "BackendData")]
    backend_data: Option<VtepRecord>,
    #[serde(rename = "BackendV6Data")]
    backend_v6_data: Option<VtepRecord>,
    // Ours beyond flannel's: what the node receives and sends by.
    #[serde(rename = "Receives", skip_serializing_if = "Option::is_none")]
    receives: Option<Vec<EncapsulationRecord>>,
    #[serde(rename = "Sends", skip_serializing_if = "Option::is_none")]
    sends: Option<Vec<EncapsulationRecord>>,
}

/// A encapsulation in which packets travel, by flannel's names of backends.
#[derive(Serialize)]
pub struct EncapsulationRecord {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "VNI", skip_serializing_if = "Option::is_none")]
    vni: Option<Vni>,
    #[serde(rename = "Port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(rename = "VtepMAC", skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(rename = "VtepV6MAC", skip_serializing_if = "Option::is_none")]
    v6_mac: Option<Mac>,
}

impl EncapsulationRecord {
    fn of(encapsulation: Encapsulation, macs: PerFamily<Mac>) -> Self {
        let (kind, id) = match encapsulation {
            Encapsulation::Direct => ("host-gw", None),
            Encapsulation::Tunnel(id) => ("vxlan", Some(id)),
        };
        Self { kind, vni: id.map(|id| id.vni), port: id.map(|id| id.port), mac: macs.v4, v6_mac: macs.v6 }
    }

    /// Those that a node receives by.
    pub fn received(ways: &EncapsulationSupport) -> Vec<Self> {
        let tunnels = ways.tunnels.iter().map(|(id, macs)| Self::of(Encapsulation::Tunnel(*id), *macs));
        let direct = ways.direct.then(|| Self::of(Encapsulation::Direct, PerFamily::none()));
        direct.into_iter().chain(tunnels).collect()
    }

    /// Those that it sends by.
    pub fn sent(ways: &EncapsulationSupport) -> Vec<Self> {
        ways.sends.iter().map(|encapsulation| Self::of(*encapsulation, PerFamily::none())).collect()
    }
}

/// Flannel's `BackendData` of vxlan.
#[derive(Serialize)]
pub struct VtepRecord {
    #[serde(rename = "VNI")]
    vni: Vni,
    #[serde(rename = "VtepMAC")]
    vtep_mac: Mac,
}

impl From<Vtep> for VtepRecord {
    fn from(vtep: Vtep) -> Self {
        Self { vni: vtep.vni, vtep_mac: vtep.mac }
    }
}

/// Writes a lease for people to read. The node's name is not in it.
pub fn render(lease: &Lease) -> String {
    // Neither maps with other keys than text nor failing fields are in it, which is all that serde_json can refuse.
    let mut text = serde_json::to_string_pretty(&record_of(lease)).unwrap_or_default();
    text.push('\n');
    text
}

/// It as it is written, in another text.
pub fn of(lease: &Lease) -> impl Serialize + '_ {
    record_of(lease)
}

fn record_of(lease: &Lease) -> Record<'_> {
    let vteps = lease.vteps.map(|_, vtep| VtepRecord::from(*vtep));
    Record {
        subnet: lease.subnets.v4,
        ipv6_subnet: lease.subnets.v6,
        public_ip: lease.public.v4,
        public_ipv6: lease.public.v6,
        backend_type: lease.backend.as_str(),
        backend_data: vteps.v4,
        backend_v6_data: vteps.v6,
        receives: lease.ways.as_ref().map(EncapsulationRecord::received),
        sends: lease.ways.as_ref().map(EncapsulationRecord::sent),
    }
}

/// Reads the lease of `node`.
pub fn parse(node: &NodeName, text: &str) -> Result<Lease, RecordError> {
    let mut object: Object = serde_json::from_str(text)?;
    let subnets = PerFamily {
        v4: subnet(&mut object, "Subnet", Family::V4)?,
        v6: subnet(&mut object, "IPv6Subnet", Family::V6)?,
    };
    if subnets.is_empty() {
        return Err(RecordError::Missing("Subnet or IPv6Subnet"));
    }
    let public = public(&mut object)?;
    if public.is_empty() {
        return Err(RecordError::Missing("PublicIP or PublicIPv6"));
    }
    let backend = backend(&mut object)?.ok_or(RecordError::Missing("BackendType"))?;
    let vteps = vteps(&mut object, &backend)?;
    let ways = ways(&mut object)?;
    Ok(Lease { node: node.clone(), subnets, public, backend, vteps, ways })
}

/// The public addresses; flannel's 0.0.0.0 is none.
pub fn public(object: &mut Object) -> Result<PerFamily<IpAddr>, FieldError> {
    let v4: Option<Ipv4Addr> = object.take("PublicIP", "an IPv4 address")?;
    let v6: Option<Ipv6Addr> = object.take("PublicIPv6", "an IPv6 address")?;
    // Flannel writes 0.0.0.0 for "none".
    Ok(PerFamily {
        v4: v4.filter(|address| !address.is_unspecified()).map(IpAddr::from),
        v6: v6.filter(|address| !address.is_unspecified()).map(IpAddr::from),
    })
}

/// The backend's name.
pub fn backend(object: &mut Object) -> Result<Option<BackendType>, FieldError> {
    let name: Option<String> = object.take("BackendType", "a backend's name")?;
    Ok(name.map(|name| BackendType::from(name.as_str())))
}

/// The tunnel's ends: other backends than vxlan have data of their own in the same place.
pub fn vteps(object: &mut Object, backend: &BackendType) -> Result<PerFamily<Vtep>, RecordError> {
    if *backend != BackendType::Vxlan {
        return Ok(PerFamily::none());
    }
    Ok(PerFamily { v4: vtep(object, "BackendData")?, v6: vtep(object, "BackendV6Data")? })
}

/// Both lists or none: half of them says nothing that could be relied on.
pub fn ways(object: &mut Object) -> Result<Option<EncapsulationSupport>, RecordError> {
    const EXPECTED: &str = r#"a list of objects like {"Type": "vxlan", "VNI": 1, "Port": 8472}"#;
    let receives: Option<Vec<Object>> = object.take("Receives", EXPECTED)?;
    let sends: Option<Vec<Object>> = object.take("Sends", EXPECTED)?;
    let (Some(receives), Some(sends)) = (receives, sends) else { return Ok(None) };
    ways_of(receives, sends).map(Some)
}

fn ways_of(receives: Vec<Object>, sends: Vec<Object>) -> Result<EncapsulationSupport, RecordError> {
    let mut ways = EncapsulationSupport::default();
    for mut entry in receives {
        let mac = "a MAC address like 0a:58:0a:f4:01:02";
        let macs = PerFamily { v4: entry.take("VtepMAC", mac)?, v6: entry.take("VtepV6MAC", mac)? };
        match encapsulation(&mut entry)? {
            Some(Encapsulation::Direct) => ways.direct = true,
            Some(Encapsulation::Tunnel(id)) => drop(ways.tunnels.insert(id, macs)),
            None => {}
        }
    }
    for mut entry in sends {
        ways.sends.extend(encapsulation(&mut entry)?);
    }
    Ok(ways)
}

/// Reads both lists, each of which is a text of its own.
pub fn ways_of_texts(receives: &str, sends: &str) -> Result<EncapsulationSupport, RecordError> {
    ways_of(serde_json::from_str(receives)?, serde_json::from_str(sends)?)
}

/// Writes both lists, without a space.
pub fn texts_of_ways(ways: &EncapsulationSupport) -> (String, String) {
    let text = |encapsulations: Vec<EncapsulationRecord>| serde_json::to_string(&encapsulations).unwrap_or_default();
    (text(EncapsulationRecord::received(ways)), text(EncapsulationRecord::sent(ways)))
}

/// A encapsulation that a later version knows is none to this one.
fn encapsulation(entry: &mut Object) -> Result<Option<Encapsulation>, RecordError> {
    let kind: String = entry.take("Type", "a backend's name")?.ok_or(RecordError::Missing("Type"))?;
    Ok(match BackendType::from(kind.as_str()) {
        BackendType::HostGw => Some(Encapsulation::Direct),
        BackendType::Vxlan => {
            let vni = entry.take("VNI", "a whole number from 1 to 16777215")?.ok_or(RecordError::Missing("VNI"))?;
            let port = entry.take("Port", "a UDP port")?.ok_or(RecordError::Missing("Port"))?;
            Some(Encapsulation::Tunnel(TunnelId { vni, port }))
        }
        BackendType::Other(_) => None,
    })
}

fn subnet(object: &mut Object, field: &str, family: Family) -> Result<Option<Prefix>, FieldError> {
    let expected = match family {
        Family::V4 => "an IPv4 range like 10.244.1.0/24",
        Family::V6 => "an IPv6 range like fd00::/64",
    };
    match object.take::<Prefix>(field, expected)? {
        Some(subnet) if subnet.family() != family => {
            let value = format!("\"{subnet}\"");
            Err(FieldError { field: field.to_owned(), value, expected: expected.to_owned() })
        }
        fits => Ok(fits),
    }
}

fn vtep(object: &mut Object, field: &str) -> Result<Option<Vtep>, RecordError> {
    let expected = r#"an object like {"VNI": 1, "VtepMAC": "0a:58:0a:f4:01:02"}"#;
    object.take::<Object>(field, expected)?.map(vtep_of).transpose()
}

/// Reads a tunnel's end from a text of its own; `null` is none.
pub fn vtep_of_text(text: &str) -> Result<Option<Vtep>, RecordError> {
    serde_json::from_str::<Option<Object>>(text)?.map(vtep_of).transpose()
}

/// Writes it as flannel does.
pub fn text_of_vtep(vtep: Vtep) -> String {
    serde_json::to_string(&VtepRecord::from(vtep)).unwrap_or_default()
}

fn vtep_of(mut vtep: Object) -> Result<Vtep, RecordError> {
    let vni = vtep.take("VNI", "a whole number from 1 to 16777215")?.ok_or(RecordError::Missing("VNI"))?;
    let mac = vtep.take("VtepMAC", "a MAC address like 0a:58:0a:f4:01:02")?.ok_or(RecordError::Missing("VtepMAC"))?;
    Ok(Vtep { vni, mac })
}

#[cfg(test)]
mod tests;
