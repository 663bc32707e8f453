//! The own Node: its state after events and answers, and the requests of a write.

mod state;
mod writes;

use dataplane::types::PerFamily;
use network::model::BackendType;
use serde_json::{Value, json};

use super::*;
use crate::store::kube::fake;

const RANGE: &str = "10.244.1.0/24";
const PREFIX: &str = "flannel.alpha.coreos.com/";

/// The own Node at an API server that is not there.
fn nowhere() -> OwnNode {
    fake::own("http://127.0.0.1:1")
}

fn name() -> NodeName {
    "n1".parse().expect("a name")
}

/// The lease that the daemon wants: no tunnel.
fn lease() -> Lease {
    let subnets = PerFamily { v4: RANGE.parse().ok(), v6: None };
    let public = PerFamily { v4: "192.168.1.11".parse().ok(), v6: None };
    Lease { node: name(), subnets, public, backend: BackendType::HostGw, data: PerFamily::none(), encapsulations: None }
}

/// The lease as annotations.
fn annotations() -> Value {
    json!({
        format!("{PREFIX}backend-data"): "null",
        format!("{PREFIX}backend-type"): "host-gw",
        format!("{PREFIX}kube-subnet-manager"): "true",
        format!("{PREFIX}public-ip"): "192.168.1.11",
    })
}

fn node(version: u64, range: &str, annotations: &Value) -> Node {
    fake::read(fake::node_object(version, range, annotations))
}
