//! The API's objects, as far as the proxy reads them, and what they mean: slim types, which pass over the rest where it stands.
//!
//! Pure. An object is never refused as a whole for a field of it: what is wrong is left out and reported. An object that is none for this
//! proxy converts to no object, as if it was deleted.

mod endpoint_slice;
mod node;
mod service;
mod service_cidr;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::endpoint_slice::EndpointSliceObject;
pub use self::node::NodeObject;
pub use self::service::ServiceObject;
pub use self::service_cidr::ServiceCidrObject;
use super::address;
use super::fault::{Fault, Faults};
use crate::model::{Event, Object, ObjectName, Protocol};

/// The label of objects that another proxy serves.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label of headless Services' objects.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Which Services and `EndpointSlices` are the proxy's, as a label selector for the API server.
pub const LABEL_SELECTOR: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// An object of the API, converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The object's name.
    pub name: ObjectName,
    /// The object; `None` where it is none for this proxy, or cannot be used.
    pub object: Option<Object>,
    /// What is wrong with the object.
    pub faults: Vec<Fault>,
}

impl Converted {
    /// The event that says so. `place` gives the place of a field, where there is one, such as `web.yaml:12`.
    pub fn event(self, place: impl Fn(&str) -> Option<String>) -> Event {
        let Self { name, object, faults } = self;
        let problems = faults.iter().map(|fault| fault.problem(&name, place(&fault.field).as_deref())).collect();
        match object {
            Some(object) => Event::Set(object, problems),
            None => Event::Unset(name, problems),
        }
    }
}

/// True for an object that is another proxy's, or a headless Service's.
fn is_excluded(metadata: &ObjectMeta) -> bool {
    let has =
        |labels: &BTreeMap<String, String>| [PROXY_NAME, HEADLESS].iter().any(|label| labels.contains_key(*label));
    metadata.labels.as_ref().is_some_and(has)
}

/// Namespace and name. A fault where one cannot be one of an object.
fn names(metadata: &ObjectMeta, faults: &mut Faults) -> (Arc<str>, Arc<str>) {
    let mut text = |field: &str, text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        if !is_name(text) {
            faults.add(field, expected_name(text));
        }
        Arc::from(text)
    };
    let namespace = text("metadata.namespace", &metadata.namespace);
    (namespace, text("metadata.name", &metadata.name))
}

/// True for a text that may name an object or a port. The API server is stricter; these names are safe to print, and bounded.
fn is_name(text: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(is_valid)
}

fn expected_name(text: &str) -> String {
    if text.is_empty() {
        return "is missing".to_owned();
    }
    let shown: String = text.chars().take(64).collect();
    format!("is {shown:?}: it may have at most 253 letters, digits, '-', '.' and '_'")
}

/// The protocol; the API's default is TCP.
fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    let text = text.unwrap_or("TCP");
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == text);
    protocol.ok_or_else(|| format!("is {text:?}: it must be TCP, UDP or SCTP"))
}

/// A port.
fn port(number: Option<i64>) -> Result<u16, String> {
    let Some(number) = number else { return Err("is missing: it must be from 1 to 65535".to_owned()) };
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("is {number}: it must be from 1 to 65535"))
}

/// An address.
fn ip(text: &str) -> Result<std::net::IpAddr, String> {
    address::address(text).ok_or_else(|| format!("is {text:?}: it must be an address, like 10.96.0.10 or fd00:10::10"))
}

/// A range.
fn range(text: &str) -> Result<dataplane::types::Prefix, String> {
    address::range(text).ok_or_else(|| format!("is {text:?}: it must be a range, like 10.96.0.0/16 or fd00:10::/108"))
}

#[cfg(test)]
mod tests;
