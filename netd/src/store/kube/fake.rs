//! Stores and Nodes for tests whose API server is [`apiserver::fake`].

use apiserver::{Address, ApiServer};
use serde_json::Value;

use super::object::{Node, NodeObject};
use super::own_node::OwnNode;
use super::{KubeStore, USER_AGENT};
use crate::config::{Config, KubeConfig, StoreConfig};

fn config(url: &str) -> KubeConfig {
    let config = Config::of(&["--kube-subnet-mgr", &format!("--kube-api-url={url}")]);
    match config.store.choose(&config.subnet_file) {
        Ok(StoreConfig::Kube(config)) => config,
        other => panic!("the API server is chosen, not {other:?}"),
    }
}

/// The own Node at the API server at a URL.
pub(super) fn own(url: &str) -> OwnNode {
    let server = ApiServer::new(Address { url: Some(url.to_owned()), kubeconfig: None }, USER_AGENT);
    OwnNode::new(server, config(url).annotation_prefix)
}

/// A store in the API server at a URL.
pub(super) fn store(url: &str, waits: bool) -> KubeStore {
    KubeStore::new(config(url), waits)
}

/// A Node as the API server has it.
pub(super) fn node_object(version: u64, range: &str, annotations: &Value) -> Value {
    serde_json::json!({
        "metadata": { "name": "n1", "uid": "u1", "resourceVersion": version.to_string(), "annotations": annotations },
        "spec": { "podCIDR": range },
    })
}

/// The Node that such an object is.
pub(super) fn read(object: Value) -> Node {
    serde_json::from_value::<NodeObject>(object).expect("a Node").into()
}
