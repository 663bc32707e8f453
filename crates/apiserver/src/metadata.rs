//! The part of an object's metadata that programs here read, for slim types: `managedFields` alone may be half of an object.
//!
//! ```text
//! #[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
//! #[resource(inherit = k8s_openapi::api::core::v1::Node)]
//! struct SlimNode {
//!     #[serde(default, deserialize_with = "apiserver::metadata::slim")]
//!     metadata: ObjectMeta,
//!     spec: ...
//! }
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Deserializer};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads name, namespace, uid, version, both timestamps, annotations and labels. The other fields are passed over.
///
/// # Errors
/// Where one of these fields is of another type than the API has it.
pub fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Slim { name, namespace, uid, resource_version, creation_timestamp, deletion_timestamp, annotations, labels } =
        Option::deserialize(deserializer)?.unwrap_or_default();
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        creation_timestamp,
        deletion_timestamp,
        annotations,
        labels,
        ..ObjectMeta::default()
    })
}
