//! The API server as the source of Services, by the rights of the manifest.
//!
//! ```text
//!   pod a ── n1 ──┬── n2 ── pods b, c
//!                 └── api
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dataplane::types::Family;
use netd_tests::apiserver::{ACCOUNT, ApiServer, node_object};
use netd_tests::daemon::Daemon;
use netd_tests::repeated::{self, Repeated};
use netd_tests::services::{Answering, POD_PORT, ask};
use netd_tests::{
    Context, Fabric, Failure, Outcome, Pod, Stack, Topology, ensure, eventually, health, net_conf, seconds,
};
use serde_json::{Value, json};

use crate::{CLUSTER, document};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// The API server's own Service.
const API: &str = "https://10.96.0.1/livez";

struct Bed {
    pods: Vec<Pod>,
    servers: Vec<Answering>,
    daemons: Vec<Daemon>,
    server: ApiServer,
    kubeconfig: String,
    fabric: Fabric,
}

impl Bed {
    /// With the Service `web`, whose endpoint is `b`.
    fn start() -> Outcome<Self> {
        let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
        let server = ApiServer::start(&fabric, "api", Stack::V4)?;
        let kubeconfig = server.admit_netd()?.display().to_string();
        let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan" })).to_string();
        let map = json!({ "metadata": { "name": "netd-cfg" }, "data": { "net-conf.json": conf } });
        server.create("/api/v1/namespaces/netd/configmaps", &map)?;
        let (pods, servers, daemons) = (Vec::new(), Vec::new(), Vec::new());
        let mut bed = Self { pods, servers, daemons, server, kubeconfig, fabric };
        for (name, range) in [("n1", "10.244.1.0/24"), ("n2", "10.244.2.0/24")] {
            bed.server.create("/api/v1/nodes", &node_object(name, &[range], &json!({}), 0))?;
            let daemon = bed.launch(name)?;
            daemon.await_ready()?;
            bed.daemons.push(daemon);
        }
        for (node, name) in [("n1", "a"), ("n2", "b"), ("n2", "c")] {
            let pod = Pod::add(bed.fabric.node(node), name)?;
            bed.servers.push(Answering::start(pod.namespace(), pod.address(Family::V4)?, name)?);
            bed.pods.push(pod);
        }
        let ports = json!([{ "protocol": "TCP", "port": CLUSTER.1, "targetPort": POD_PORT }]);
        let web =
            json!({ "metadata": { "name": "web" }, "spec": { "clusterIP": IpAddr::from(CLUSTER.0), "ports": ports } });
        bed.server.create(SERVICES, &web)?;
        let slice = json!({
            "metadata": { "name": "web", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [{ "name": "", "protocol": "TCP", "port": POD_PORT }],
            "endpoints": bed.endpoints(&["b"])?,
        });
        bed.server.create(SLICES, &slice)?;
        Ok(bed)
    }

    /// netd on a node, as the manifest has it.
    fn launch(&self, node: &str) -> Outcome<Daemon> {
        let state = self.state(node);
        std::fs::create_dir_all(&state).context("make a folder for netd's state")?;
        let state = state.display().to_string();
        self.fabric.node(node).launch_netd(&[
            "--kube-subnet-mgr",
            "--net-conf-configmap=netd/netd-cfg",
            "--ip-masq",
            "--proxy=auto",
            health::FLAG,
            "--kubeconfig-file",
            &self.kubeconfig,
            "--state-dir",
            &state,
        ])
    }

    fn state(&self, node: &str) -> PathBuf {
        self.fabric.disk().join(format!("state-{node}"))
    }

    /// Waits until netd on `n1` has written what a start without the API server needs.
    fn await_cache(&self) -> Outcome {
        eventually(seconds(60), "netd has a cache file", || {
            let mut files = std::fs::read_dir(self.state("n1")).context("read the state's folder")?.flatten();
            ensure!(files.any(|file| file.path().extension().is_some_and(|end| end == "json")), "there is none");
            Ok(())
        })
        .map_err(|failure| self.with_logs(failure))
    }

    fn endpoints(&self, names: &[&str]) -> Outcome<Value> {
        let pods = self.pods.iter().filter(|pod| names.contains(&pod.name()));
        let endpoint =
            |pod: &Pod| Ok(json!({ "addresses": [pod.address(Family::V4)?], "nodeName": "n2", "conditions": {} }));
        pods.map(endpoint).collect()
    }

    fn set_endpoints(&self, names: &[&str]) -> Outcome {
        let endpoints = self.endpoints(names)?;
        self.server.patch(&format!("{SLICES}/web"), &json!({ "endpoints": endpoints })).map(drop)
    }

    /// Waits until connections of the pod on the other node go to these pods and no other one.
    fn serves(&self, names: &[&str]) -> Outcome {
        eventually(seconds(60), &format!("{names:?} answer"), || {
            let ask = || (0..30).map(|_| Ok(ask(SocketAddr::from(CLUSTER))?.0)).collect::<Outcome<BTreeSet<_>>>();
            let seen = self.pods[0].namespace().within(ask)??;
            ensure!(seen.iter().eq(names), "{seen:?} do");
            Ok(())
        })
        .map_err(|failure| self.with_logs(failure))
    }

    /// Waits until netd on `n1` says that the API server is away, or that it is not.
    fn await_outage(&self, is_away: bool) -> Outcome {
        eventually(seconds(60), &format!("netd says that the API server is away: {is_away}"), || {
            let status = document(self.fabric.node("n1"))?;
            let problems = status["problems"].to_string();
            ensure!(problems.contains("cannot be followed") == is_away, "the problems are {problems}");
            Ok(())
        })
        .map_err(|failure| self.with_logs(failure))
    }

    fn with_logs(&self, failure: Failure) -> Failure {
        self.daemons
            .iter()
            .zip(["netd on n1", "netd on n2"])
            .fold(failure, |failure, (daemon, name)| failure.with(name, &daemon.log()))
    }
}

pub(crate) fn serves() -> Outcome {
    let mut bed = Bed::start()?;
    bed.serves(&["b"])?;
    bed.set_endpoints(&["b", "c"])?;
    bed.serves(&["b", "c"])?;
    let curl = format!("curl --insecure --silent --max-time 5 -o /dev/null -w %{{http_code}} {API}");
    let code = bed.pods[0].namespace().run(&curl)?;
    ensure!(code == "200" || code == "401", "the API server's own Service answers {code}");
    let load = || {
        let one = || ask(SocketAddr::from(CLUSTER)).map(drop);
        vec![Repeated::start(bed.pods[0].namespace(), one), Repeated::start(bed.fabric.node("n1").namespace(), one)]
    };
    let load = load();
    repeated::go_on(&load)?;

    let ended = bed.daemons.remove(0).terminate()?;
    ensure!(ended.success(), "netd ends with {ended}");
    bed.set_endpoints(&["c"])?;
    repeated::go_on(&load)?;
    let started = bed.launch("n1")?;
    bed.daemons.insert(0, started);
    bed.serves(&["c"])?;

    // An API server that has just started refuses everybody for a moment, so this is asked before the next start.
    bed.server.nothing_was_refused(ACCOUNT)?;
    bed.await_cache()?;
    bed.server.stop()?;
    bed.await_outage(true)?;
    repeated::go_on(&load)?;
    // A start without the API server changes nothing.
    bed.daemons.remove(0).crash()?;
    let started = bed.launch("n1")?;
    started.await_ready()?;
    bed.daemons.insert(0, started);
    bed.await_outage(true)?;
    repeated::go_on(&load)?;
    bed.server.resume()?;
    bed.set_endpoints(&["b"])?;
    bed.serves(&["b"])?;
    bed.await_outage(false)?;
    repeated::unharmed(load).map_err(|failure| bed.with_logs(failure))
}
