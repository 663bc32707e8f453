//! An `EndpointSlice` of the API.

use std::sync::Arc;

use dataplane::types::Family;
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Converted, Faults, expected_name, ip, is_excluded, is_name, names, port, protocol};
use crate::model::{Endpoint, Object, ObjectName, Slice, SliceName, SlicePort};

/// The label with the Service's name.
const SERVICE: &str = "kubernetes.io/service-name";

/// The annotation with the time of the change that led to the slice's last change.
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// How many faults of endpoints are reported: a slice may have 100,000 endpoints with the same fault.
const TOLD: usize = 8;

/// An `EndpointSlice`, as the API has it.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = discovery::EndpointSlice)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    pub(in crate::source) metadata: ObjectMeta,
    address_type: Option<String>,
    ports: Option<Vec<PortObject>>,
    endpoints: Option<Vec<EndpointObject>>,
}

#[derive(Debug, Clone, Deserialize)]
struct PortObject {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointObject {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    hints: Option<Hints>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    for_zones: Option<Vec<Hint>>,
    for_nodes: Option<Vec<Hint>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Hint {
    name: Option<String>,
}

impl EndpointSliceObject {
    /// Converts the slice on the node of that name. A slice without a Service, one of host names and one of another proxy say nothing.
    pub fn convert(self, node: &str) -> Converted {
        let mut faults = Faults::default();
        let (namespace, name) = names(&self.metadata, &mut faults);
        let name = SliceName { namespace, name };
        let is_usable = faults.0.is_empty() && !is_excluded(&self.metadata);
        let last_change = self.last_change();
        let slice = if is_usable { self.slice(&name, node, &mut faults) } else { None };
        let object = slice.map(|slice| Object::Slice(slice, last_change));
        Converted { name: ObjectName::Slice(name), object, faults: faults.0 }
    }

    /// The API server's default of a port's name, for objects that did not come through one.
    pub(in crate::source) fn set_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
        }
    }

    fn last_change(&self) -> Option<Timestamp> {
        self.metadata.annotations.as_ref()?.get(LAST_CHANGE)?.parse().ok()
    }

    fn slice(self, name: &SliceName, node: &str, faults: &mut Faults) -> Option<Slice> {
        let labels = self.metadata.labels.unwrap_or_default();
        let service = labels.get(SERVICE).filter(|service| !service.is_empty());
        let Some(service) = service else {
            faults.add(format!("metadata.labels[{SERVICE}]"), "is missing: it must be the name of the Service");
            return None;
        };
        let family = match self.address_type.as_deref() {
            Some("IPv4") => Family::V4,
            Some("IPv6") => Family::V6,
            Some("FQDN") => return None,
            other => {
                let other = other.unwrap_or_default();
                faults.add("addressType", format!("is {other:?}: it must be IPv4, IPv6 or FQDN"));
                return None;
            }
        };
        let ports = self.ports.unwrap_or_default();
        let ports = ports.iter().enumerate().filter_map(|(place, port)| port.read(place, faults)).collect();
        let mut untold = 0;
        let mut endpoints = Vec::new();
        for (place, endpoint) in self.endpoints.into_iter().flatten().enumerate() {
            match endpoint.read(family, node) {
                Ok(endpoint) => endpoints.extend(endpoint),
                Err(detail) if faults.0.len() < TOLD => faults.add(format!("endpoints[{place}].addresses[0]"), detail),
                Err(_) => untold += 1,
            }
        }
        if untold > 0 {
            faults.add("endpoints", format!("has {untold} more endpoints with a wrong address"));
        }
        let endpoints = endpoints.into_boxed_slice();
        Some(Slice { name: name.clone(), service: service.as_str().into(), family, ports, endpoints })
    }
}

impl PortObject {
    fn read(&self, place: usize, faults: &mut Faults) -> Option<SlicePort> {
        let field = |name: &str| format!("ports[{place}].{name}");
        let Some(name) = self.name.as_deref() else {
            faults.add(field("name"), "is missing: it must be that of the Service's port, or empty");
            return None;
        };
        if !name.is_empty() && !is_name(name) {
            faults.add(field("name"), expected_name(name));
            return None;
        }
        let protocol = faults.take(&field("protocol"), protocol(self.protocol.as_deref()))?;
        let port = faults.take(&field("port"), port(self.port))?;
        Some(SlicePort { name: name.into(), protocol, port })
    }
}

impl EndpointObject {
    /// The endpoint; none where it has no address. Addresses behind the first have no meaning.
    fn read(self, family: Family, node: &str) -> Result<Option<Endpoint>, String> {
        let Some(text) = self.addresses.unwrap_or_default().into_iter().next() else { return Ok(None) };
        let address = ip(&text)?;
        if Family::of(address) != family {
            return Err(format!("is {text:?}: it must be of addressType {family}"));
        }
        let Conditions { ready, serving, terminating } = self.conditions.unwrap_or_default();
        let Hints { for_zones, for_nodes } = self.hints.unwrap_or_default();
        Ok(Some(Endpoint {
            address,
            is_local: self.node_name.is_some_and(|name| name == node),
            ready: ready.unwrap_or(true),
            serving: serving.unwrap_or(true),
            terminating: terminating.unwrap_or(false),
            zone_hints: hints(for_zones),
            node_hints: hints(for_nodes),
        }))
    }
}

fn hints(hints: Option<Vec<Hint>>) -> Box<[Arc<str>]> {
    let names = hints.into_iter().flatten().filter_map(|hint| hint.name);
    names.filter(|name| !name.is_empty()).map(Arc::from).collect()
}
