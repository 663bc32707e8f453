//! A lease as JSON: flannel's etcd value with the subnets added, which flannel has in the key.
//!
//! Pure. Keys are read in any case; unknown ones are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::types::{Family, PerFamily, Prefix};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::backend::ENCAPSULATIONS_EXAMPLE;
pub use crate::backend::EncapsulationRecord;
use crate::caseless::{FieldError, Object};
use crate::model::{BackendData, BackendType, Encapsulation, EncapsulationSupport, Lease, NodeName};
pub use crate::record_error::RecordError;

/// How many bytes a record has at most.
pub const LARGEST: usize = 64 * 1024;

/// How many entries a list has at most.
const LONGEST: usize = 16;

/// The fields in the order in which they are written. `None` is `null`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LeaseRecord<'a> {
    subnet: Option<Prefix>,
    #[serde(rename = "IPv6Subnet")]
    ipv6_subnet: Option<Prefix>,
    #[serde(rename = "PublicIP")]
    public_ip: Option<IpAddr>,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<IpAddr>,
    backend_type: &'a str,
    backend_data: Option<&'a BackendData>,
    backend_v6_data: Option<&'a BackendData>,
    // netd's beyond flannel's: what the node receives and sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    receives: Option<Vec<EncapsulationRecord<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sends: Option<Vec<EncapsulationRecord<'a>>>,
}

/// The encapsulations in which a node receives; those that no backend here reads come last.
pub fn received(support: &EncapsulationSupport) -> Vec<EncapsulationRecord<'_>> {
    let known = support.receives.iter().map(|(encapsulation, macs)| encapsulation.entry(*macs));
    records(known, &support.unknown_receives)
}

/// The encapsulations in which a node sends; those that no backend here reads come last.
pub fn sent(support: &EncapsulationSupport) -> Vec<EncapsulationRecord<'_>> {
    let known = support.sends.iter().map(|encapsulation| encapsulation.entry(PerFamily::none()));
    records(known, &support.unknown_sends)
}

fn records<'a>(
    known: impl Iterator<Item = EncapsulationRecord<'a>>,
    unknown: &'a [Box<str>],
) -> Vec<EncapsulationRecord<'a>> {
    known.chain(unknown.iter().map(|entry| EncapsulationRecord::Raw(entry))).collect()
}

/// Writes a lease for people to read. The node's name is not in it.
pub fn render(lease: &Lease) -> String {
    // Neither maps with other keys than text nor failing fields are in it, which is all that serde_json can refuse.
    let mut text = serde_json::to_string_pretty(&of(lease)).unwrap_or_default();
    text.push('\n');
    text
}

/// A lease as a part of another text.
pub fn of(lease: &Lease) -> impl Serialize + '_ {
    LeaseRecord {
        subnet: lease.subnets.v4,
        ipv6_subnet: lease.subnets.v6,
        public_ip: lease.public.v4,
        public_ipv6: lease.public.v6,
        backend_type: lease.backend.as_str(),
        backend_data: lease.data.v4.as_ref(),
        backend_v6_data: lease.data.v6.as_ref(),
        receives: lease.encapsulations.as_ref().map(received),
        sends: lease.encapsulations.as_ref().map(sent),
    }
}

/// Reads the lease of `node`.
pub fn parse(node: &NodeName, text: &str) -> Result<Lease, RecordError> {
    check_size(text.len())?;
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
    let data = take_data(&mut object, &backend)?;
    let encapsulations = encapsulations(&mut object)?;
    Ok(Lease { node: node.clone(), subnets, public, backend, data, encapsulations })
}

/// Refuses a record that is too large to be one.
pub fn check_size(bytes: usize) -> Result<(), RecordError> {
    if bytes > LARGEST { Err(RecordError::Large(bytes)) } else { Ok(()) }
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

/// What the backend publishes.
pub fn take_data(object: &mut Object, backend: &BackendType) -> Result<PerFamily<BackendData>, RecordError> {
    let mut take = |field: &str| {
        let expected = format!("an object like {}", backend.data_example());
        let Some(json) = object.take::<&RawValue>(field, &expected)? else { return Ok(None) };
        BackendData::parse(backend, json.get()).map_err(|error| match error {
            RecordError::Syntax(_) => FieldError::new(field, json, expected).into(),
            error => error,
        })
    };
    Ok(PerFamily { v4: take("BackendData")?, v6: take("BackendV6Data")? })
}

/// Reads what the node receives and sends; none where one of the two lists is missing, since one alone cannot be relied on.
pub fn encapsulations(object: &mut Object) -> Result<Option<EncapsulationSupport>, RecordError> {
    let expected = format!("a list of objects like {ENCAPSULATIONS_EXAMPLE}");
    let receives: Option<Vec<&RawValue>> = object.take("Receives", &expected)?;
    let sends: Option<Vec<&RawValue>> = object.take("Sends", &expected)?;
    let (Some(receives), Some(sends)) = (receives, sends) else { return Ok(None) };
    support(&receives, &sends).map(Some)
}

/// Reads both lists, each of which is a text of its own.
pub fn encapsulations_of_texts(receives: &str, sends: &str) -> Result<EncapsulationSupport, RecordError> {
    check_size(receives.len() + sends.len())?;
    support(&serde_json::from_str::<Vec<&RawValue>>(receives)?, &serde_json::from_str::<Vec<&RawValue>>(sends)?)
}

/// Writes both lists, without a space.
pub fn texts_of_encapsulations(support: &EncapsulationSupport) -> (String, String) {
    let text = |entries: Vec<EncapsulationRecord<'_>>| serde_json::to_string(&entries).unwrap_or_default();
    (text(received(support)), text(sent(support)))
}

fn support(receives: &[&RawValue], sends: &[&RawValue]) -> Result<EncapsulationSupport, RecordError> {
    for (field, list) in [("Receives", receives), ("Sends", sends)] {
        if list.len() > LONGEST {
            return Err(RecordError::Long(field, list.len()));
        }
    }
    let mut support = EncapsulationSupport::default();
    for entry in receives {
        match Encapsulation::parse(serde_json::from_str(entry.get())?)? {
            Some((encapsulation, macs)) => drop(support.receives.insert(encapsulation, macs)),
            None => support.unknown_receives.push(entry.get().into()),
        }
    }
    for entry in sends {
        match Encapsulation::parse(serde_json::from_str(entry.get())?)? {
            Some((encapsulation, _)) => drop(support.sends.insert(encapsulation)),
            None => support.unknown_sends.push(entry.get().into()),
        }
    }
    Ok(support)
}

fn subnet(object: &mut Object, field: &str, family: Family) -> Result<Option<Prefix>, FieldError> {
    let expected = match family {
        Family::V4 => "an IPv4 range like 10.244.1.0/24",
        Family::V6 => "an IPv6 range like fd00::/64",
    };
    object.take_if(field, expected, |subnet: &Prefix| subnet.family() == family)
}

#[cfg(test)]
mod tests;
