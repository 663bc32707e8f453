//! The API's objects as far as netd reads them: slim types, which pass over the rest where it stands.
//!
//! Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// A Node, as the API has it: its images and its managed fields are not kept.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = core::Node)]
pub(super) struct NodeObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    metadata: ObjectMeta,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// A Node, as netd has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// The UID: another one of the same name has another.
    pub(super) uid: String,
    /// The resource version as a number: those of all Nodes are of one sequence. `None` where it is no number.
    pub(super) version: Option<u64>,
    /// The annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// The pods' ranges: `spec.podCIDRs`.
    pub(super) ranges: Vec<String>,
    /// The status of the condition `NetworkUnavailable`.
    pub(super) unavailable: Option<String>,
}

impl From<NodeObject> for Node {
    fn from(object: NodeObject) -> Self {
        let NodeObject { metadata, spec, status } = object;
        let NodeSpec { pod_cidr, pod_cidrs } = spec.unwrap_or_default();
        let mut ranges = pod_cidrs.unwrap_or_default();
        ranges.retain(|range| !range.is_empty());
        if ranges.is_empty() {
            ranges.extend(pod_cidr.filter(|range| !range.is_empty()));
        }
        let mut conditions = status.and_then(|status| status.conditions).unwrap_or_default().into_iter();
        let unavailable = conditions.find(|condition| condition.kind == "NetworkUnavailable");
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.and_then(|version| version.parse().ok()),
            annotations: metadata.annotations.unwrap_or_default(),
            ranges,
            unavailable: unavailable.map(|condition| condition.status),
        }
    }
}

/// A Pod, as the API has it.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = core::Pod)]
pub(super) struct PodObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

impl PodObject {
    /// The node that the Pod runs on.
    pub(super) fn node(self) -> Option<String> {
        self.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty())
    }
}

#[cfg(test)]
mod tests;
