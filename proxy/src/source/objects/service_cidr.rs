//! A `ServiceCIDR` of the API: ranges of cluster IPs (KEP-1880).

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Converted, Faults, range};
use crate::model::{Object, ObjectName};

/// A `ServiceCIDR`, as the API has it.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = networking::ServiceCIDR)]
pub struct ServiceCidrObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    pub(in crate::source) metadata: ObjectMeta,
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Deserialize)]
struct Spec {
    cidrs: Option<Vec<String>>,
}

impl ServiceCidrObject {
    /// Converts the `ServiceCIDR`.
    pub fn convert(self) -> Converted {
        let mut faults = Faults::default();
        let name = std::sync::Arc::<str>::from(self.metadata.name.unwrap_or_default());
        let texts = self.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        let mut read = |(place, text): (usize, &String)| faults.take(&format!("spec.cidrs[{place}]"), range(text));
        let ranges = texts.iter().enumerate().filter_map(&mut read).collect();
        let object = Object::ServiceCidr(name.clone(), ranges);
        Converted { name: ObjectName::ServiceCidr(name), object: Some(object), faults: faults.0 }
    }
}
