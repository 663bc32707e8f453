//! A Deployment's rolling update under load, and addresses outside of the cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netd_tests::kubernetes::CLIENT;
use netd_tests::repeated::{self, Repeated};
use netd_tests::{Context, Namespace, Outcome, ensure, eventually, seconds};
use serde_json::json;

use crate::bed::Bed;
use crate::proxy::{answer, name_once, with_logs};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const NODE_PORT: u16 = 30090;
/// Addresses that no machine has, as a load balancer and an operator give them out.
const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

/// The pods that run, without those that end.
fn pods(bed: &Bed) -> Outcome<Vec<String>> {
    let list = bed.cluster.server.get("/api/v1/namespaces/default/pods?labelSelector=app=updated")?;
    let items = list["items"].as_array().context("a list of pods")?;
    let stay = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(stay.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
}

/// Updates a Deployment while requests come from a pod and from outside. A pod that ends goes on to answer for a while, as it should:
/// no request may fail, and soon none may come to it.
pub(crate) fn is_updated(bed: &Bed, pod: &Namespace, outside: &Namespace) -> Outcome {
    let server = &bed.cluster.server;
    let container = json!({
        "name": "client", "image": CLIENT, "imagePullPolicy": "Never",
        "args": ["netexec", "--http-port=8080", "--udp-port=8081", "--delay-shutdown=20"],
        "readinessProbe": { "httpGet": { "path": "/hostname", "port": 8080 }, "periodSeconds": 1 },
    });
    let deployment = json!({ "metadata": { "name": "updated" }, "spec": {
        "replicas": 2,
        "selector": { "matchLabels": { "app": "updated" } },
        "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": {
            "metadata": { "labels": { "app": "updated" } },
            "spec": { "terminationGracePeriodSeconds": 60, "automountServiceAccountToken": false, "containers": [container] },
        },
    }});
    server.create(DEPLOYMENTS, &deployment)?;
    let service = json!({ "metadata": { "name": "updated" }, "spec": {
        "type": "LoadBalancer", "allocateLoadBalancerNodePorts": true, "externalIPs": [EXTERNAL],
        "selector": { "app": "updated" },
        "ports": [{ "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }] } });
    let service = server.create(SERVICES, &service)?;
    let address: IpAddr =
        service["spec"]["clusterIP"].as_str().unwrap_or_default().parse().context("read a clusterIP")?;
    let ingress = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": LOAD_BALANCER }] } } });
    server.patch(&format!("{SERVICES}/updated/status"), &ingress)?;
    let rollout = ["rollout", "status", "deployment/updated", "--timeout=180s"];
    server.kubectl(&rollout).map_err(|failure| with_logs(bed, failure))?;
    let former = pods(bed)?;
    let to = [(pod, SocketAddr::new(address, 80)), (outside, at_node(bed))];
    let are = |pods: &[String]| {
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        to.iter().try_for_each(|(from, to)| answer(from, *to, &pods)).map_err(|failure| with_logs(bed, failure))
    };
    are(&former)?;
    let load = to.map(|(from, to)| Repeated::start(from, move || name_once(to).map(drop)));
    repeated::go_on(&load)?;
    server.kubectl(&["rollout", "restart", "deployment/updated"])?;
    server.kubectl(&rollout).map_err(|failure| with_logs(bed, failure))?;
    let later = pods(bed)?;
    ensure!(later.iter().all(|pod| !former.contains(pod)), "{former:?} became {later:?}");
    are(&later)?;
    eventually(seconds(90), "the former pods are gone", || {
        let list = server.get("/api/v1/namespaces/default/pods?labelSelector=app=updated")?;
        ensure!(list["items"].as_array().is_some_and(|pods| pods.len() == later.len()), "they are there");
        Ok(())
    })?;
    repeated::unharmed(load.into()).map_err(|failure| with_logs(bed, failure))
}

fn at_node(bed: &Bed) -> SocketAddr {
    SocketAddr::new(bed.cluster.fabric.node("n1").first_address(), NODE_PORT)
}

/// The Deployment's pods are reached at its node port, its load balancer's address and its external one.
pub(crate) fn is_reached_from_outside(bed: &Bed, outside: &Namespace) -> Outcome {
    let pods = pods(bed)?;
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let node = bed.cluster.fabric.node("n1").first_address();
    for address in [LOAD_BALANCER, EXTERNAL] {
        outside.ip(&format!("route add {address} via {node}"))?;
    }
    for to in [at_node(bed), (LOAD_BALANCER, 80).into(), (EXTERNAL, 80).into()] {
        answer(outside, to, &pods).map_err(|failure| with_logs(bed, failure))?;
    }
    Ok(())
}
