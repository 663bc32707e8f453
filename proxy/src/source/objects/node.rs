//! A Node of the API.

use dataplane::types::{Family, PerFamily};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Converted, Faults, ip, range};
use crate::model::{Node, Object, ObjectName};

const ZONE: &str = "topology.kubernetes.io/zone";
/// The taint that a cluster's autoscaler sets before it removes the node.
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node, as the API has it.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = core::Node)]
pub struct NodeObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    pub(in crate::source) metadata: ObjectMeta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Taint {
    key: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: Option<String>,
    address: Option<String>,
}

impl NodeObject {
    /// Converts the Node.
    pub fn convert(self) -> Converted {
        let mut faults = Faults::default();
        let metadata = self.metadata;
        let name = metadata.name.unwrap_or_default();
        let spec = self.spec.unwrap_or_default();
        let addresses = self.status.and_then(|status| status.addresses).unwrap_or_default();
        let is_tainted = spec.taints.iter().flatten().any(|taint| taint.key.as_deref() == Some(LEAVING));
        let zone = metadata.labels.unwrap_or_default().remove(ZONE).filter(|zone| !zone.is_empty());
        let node = Node {
            name: name.as_str().into(),
            zone: zone.map(Into::into),
            addresses: node_addresses(&addresses, &mut faults),
            pod_cidrs: spec.pod_cidrs(&mut faults),
            is_leaving: is_tainted || metadata.deletion_timestamp.is_some(),
        };
        Converted { name: ObjectName::Node(node.name.clone()), object: Some(Object::Node(node)), faults: faults.0 }
    }
}

impl Spec {
    fn pod_cidrs(&self, faults: &mut Faults) -> PerFamily<dataplane::types::Prefix> {
        let listed = self.pod_cidrs.as_deref().filter(|listed| !listed.is_empty());
        let texts = listed.unwrap_or(self.pod_cidr.as_slice());
        let mut ranges = PerFamily::none();
        for (place, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            if let Some(range) = faults.take(&format!("spec.podCIDRs[{place}]"), range(text)) {
                ranges.slot(range.family()).get_or_insert(range);
            }
        }
        ranges
    }
}

/// The first internal address of each family, else the first external one.
fn node_addresses(addresses: &[Address], faults: &mut Faults) -> PerFamily<std::net::IpAddr> {
    let mut found = PerFamily::none();
    for kind in ["InternalIP", "ExternalIP"] {
        for (place, address) in
            addresses.iter().enumerate().filter(|(_, address)| address.kind.as_deref() == Some(kind))
        {
            let text = address.address.as_deref().unwrap_or_default();
            if let Some(address) = faults.take(&format!("status.addresses[{place}].address"), ip(text)) {
                found.slot(Family::of(address)).get_or_insert(address);
            }
        }
    }
    found
}
