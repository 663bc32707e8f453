//! What `scripts/bench services` measures: netd-proxy beside kube-proxy, on a real API server with as many Services as the figures are
//! about.

mod away;
mod change;
mod contender;
mod directory;
mod notifications;
mod objects;
mod soak;
mod traffic;

use std::path::PathBuf;

use serde_json::json;

use self::objects::Slice;
use crate::apiserver::{self, ApiServer, node_object};
use crate::failure::{Context, Outcome};
use crate::node::Node;
use crate::peers::{self, NEWER_KUBE_PROXY};
use crate::topology::{Fabric, Stack, Topology};

/// A part, by the name under which it can be asked for.
type Part = (&'static str, fn() -> Outcome);

const PARTS: [Part; 3] =
    [("change", change::measure), ("traffic", traffic::measure), ("directory", directory::measure)];
/// What is measured only where it is asked for.
const LONG: [Part; 4] = [
    ("iptables", change::measure_iptables),
    ("many", change::measure_many),
    ("soak", soak::measure),
    ("away", away::measure),
];

/// How many Services: few, as many as a cluster has, and many.
const SIZES: [u32; 3] = [10, 2_000, 10_000];
const ENDPOINTS: u32 = 3;
/// More Services than kube-proxy is measured with, each with one endpoint.
const MANY: u32 = 45_000;

/// Builds what is measured beside netd-proxy, once.
///
/// # Errors
/// Where Go is missing or a build fails.
pub fn prepare() -> Outcome {
    peers::prepare(&[&apiserver::PROGRAMS[..], &[NEWER_KUBE_PROXY]].concat())
}

/// Measures the parts of these names, or all.
///
/// # Errors
/// Where a name is no part's, or something cannot be measured.
pub fn run(names: &[String]) -> Outcome {
    if names.is_empty() {
        super::run_parts(&PARTS, names)
    } else {
        super::run_parts(&[&PARTS[..], &LONG].concat(), names)
    }
}

/// How long a part lasts: `NETD_BENCH_MINUTES`.
fn minutes(default: u32) -> u32 {
    std::env::var("NETD_BENCH_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A machine for each of the two, one with an endpoint that answers, and one with the API server. Both proxies are administrators, so that
/// no right is missing.
struct Bed {
    fabric: Fabric,
    server: ApiServer,
    kubeconfig: PathBuf,
    /// How many Services there are, and how many endpoints each has.
    size: u32,
    endpoints: u32,
}

impl Bed {
    fn new() -> Outcome<Self> {
        Self::with(ENDPOINTS)
    }

    fn with(endpoints: u32) -> Outcome<Self> {
        let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
        let server = ApiServer::start(&fabric, "api", Stack::V4)?;
        for node in &fabric.nodes {
            let mut object = node_object(node.name(), &[], &json!({}), 0);
            object["status"]["addresses"] = json!([{ "type": "InternalIP", "address": node.first_address() }]);
            server.create("/api/v1/nodes", &object)?;
        }
        let kubeconfig = server.admin();
        Ok(Self { fabric, server, kubeconfig, size: 0, endpoints })
    }

    fn node(&self, name: &str) -> &Node {
        self.fabric.node(name)
    }

    /// Adds Services until there are so many, each with its endpoints.
    fn fill(&mut self, size: u32) -> Outcome {
        println!("writing {} Services with {} endpoints each", size - self.size, self.endpoints);
        let first = self.size;
        let count = usize::try_from(size - first).context("count Services")?;
        let number = |place: usize| first + u32::try_from(place).unwrap_or_default();
        self.server.create_many(objects::SERVICES, count, |place| objects::service(number(place)))?;
        self.server.create_many(objects::SLICES, count, |place| self.slice(number(place)).object())?;
        self.size = size;
        Ok(())
    }

    /// The same for so many Services that the API server would take an hour: it counts all addresses that Services have at each new one.
    /// Services and their addresses are written below it.
    fn fill_directly(&mut self, size: u32) -> Outcome {
        println!("writing {size} Services with {} endpoints each", self.endpoints);
        let machine = self.fabric.node("api");
        self.server.store_all(machine, (0..size).map(objects::stored_service))?;
        self.server.store_all(machine, (0..size).map(objects::stored_address))?;
        let count = usize::try_from(size).context("count Services")?;
        let number = |place: usize| u32::try_from(place).unwrap_or_default();
        self.server.create_many(objects::SLICES, count, |place| self.slice(number(place)).object())?;
        self.size = size;
        Ok(())
    }

    /// A Service's endpoints, as they were written first.
    fn slice(&self, number: u32) -> Slice {
        Slice::of(number, self.endpoints)
    }

    /// Gives a slice other endpoints.
    fn patch(&self, slice: &Slice) -> Outcome {
        self.server.patch(&slice.path(), &json!({ "endpoints": slice.endpoints() })).map(drop)
    }
}
