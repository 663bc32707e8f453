//! What `scripts/bench cluster` measures: netd beside flanneld, on a real API server with as many Nodes as the figures are about.

mod contender;
mod hour;
mod nodes;
mod switch;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::bed::{Backend, StorePeer};
use crate::apiserver::{self, ApiServer, MANY_IMAGES, node_object};
use crate::failure::{Context, Outcome};
use crate::node::Node;
use crate::peers::{self, FLANNELD};
use crate::topology::{Fabric, Stack, Topology};

/// A part, by the name under which it can be asked for.
type Part = (&'static str, fn() -> Outcome);

const PARTS: [Part; 2] = [("nodes", nodes::measure), ("switch", switch::measure)];
/// What is measured only where it is asked for.
const LONG: [Part; 1] = [("hour", hour::measure)];

/// Builds what is measured beside netd, once.
///
/// # Errors
/// Where Go is missing or a build fails.
pub fn prepare() -> Outcome {
    peers::prepare(&[&apiserver::PROGRAMS[..], &[FLANNELD]].concat())
}

/// Measures the parts of these names, or all.
///
/// # Errors
/// Where a name is no part's, or something cannot be measured.
pub fn run(names: &[String]) -> Outcome {
    let is_long = |name: &String| LONG.iter().any(|(long, _)| long == name);
    if names.iter().any(is_long) { super::run_parts(&LONG, names) } else { super::run_parts(&PARTS, names) }
}

/// Three machines and one with the API server, where all daemons are the account of netd's manifest, whose rights do for flanneld: what
/// they ask of the server is counted apart from what the measuring asks.
struct Bed {
    fabric: Fabric,
    server: ApiServer,
    kubeconfig: PathBuf,
    conf: PathBuf,
}

impl Bed {
    /// With a Node for each of the three machines.
    fn new() -> Outcome<Self> {
        let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
        let server = ApiServer::start(&fabric, "api", Stack::V4)?;
        let kubeconfig = server.admit_netd()?;
        let conf = fabric.disk().join("net-conf.json");
        std::fs::write(&conf, net_conf(Backend::Vxlan).to_string()).context("write net-conf.json")?;
        for number in 1..=3 {
            // flanneld breaks on a Node without any annotation.
            let some = json!({ "of-nobody": "" });
            let node = node_object(&format!("n{number}"), &[&format!("10.99.{number}.0/24")], &some, MANY_IMAGES);
            server.create("/api/v1/nodes", &node)?;
        }
        Ok(Self { fabric, server, kubeconfig, conf })
    }

    fn node(&self, name: &str) -> &Node {
        self.fabric.node(name)
    }
}

fn net_conf(backend: Backend) -> Value {
    json!({ "Network": "10.0.0.0/8", "Backend": { "Type": backend.name() } })
}

/// Where a Node is in the API.
fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

/// A Node as flanneld has annotated it.
fn node_of(store_peer: StorePeer) -> Outcome<Value> {
    let annotations = json!({
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": json!({ "VNI": 1, "VtepMAC": store_peer.mac().to_string() }).to_string(),
        "flannel.alpha.coreos.com/public-ip": store_peer.public().to_string(),
    });
    Ok(node_object(&store_peer.name(), &[&store_peer.subnet()?.to_string()], &annotations, MANY_IMAGES))
}
