//! What fields of objects mean, with objects that went through the API server's validation and defaults.

use std::net::Ipv4Addr;

use netd_tests::daemon::Daemon;
use netd_tests::{Context, Outcome, ensure, eventually, seconds};
use serde_json::{Value, json};

use crate::ask::{Answer, Protocol};
use crate::bed::{self, Bed, NODE, NODE_PORT, OUTSIDE, POD, WEB};

/// Addresses of load balancers: one that the node serves, and one whose load balancer takes the packets itself.
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 80);
const PROXIED: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 2), 80);
/// The port on which a load balancer asks for endpoints of this node.
const HEALTH: u16 = 31_000;

pub(crate) fn of_fields() -> Outcome {
    let bed = Bed::start()?;
    let daemon = bed.launch(bed.netd_proxy(&["--nodeport-addresses=primary,localhost"])?, "netd-proxy")?;
    let steps = [excluded, conditions, hints, loopback, load_balancer, health_check, affinity];
    steps.iter().try_for_each(|step| step(&bed)).map_err(|failure| with_logs(&bed, failure, &daemon))?;
    bed.nothing_was_refused()
}

fn with_logs(bed: &Bed, failure: netd_tests::Failure, daemon: &Daemon) -> netd_tests::Failure {
    let tables = bed.node().run("nft list table ip netd-proxy").unwrap_or_else(|failure| failure.to_string());
    bed.with_logs(failure, daemon).with("the table", &tables)
}

/// An endpoint with more fields.
fn endpoint(n: u8, node: &str, more: Value) -> Value {
    let mut endpoint =
        json!({ "addresses": [bed::endpoint(n).ip()], "nodeName": node, "conditions": { "ready": true } });
    if let (Some(endpoint), Value::Object(more)) = (endpoint.as_object_mut(), more) {
        endpoint.extend(more);
    }
    endpoint
}

fn set_endpoints(bed: &Bed, endpoints: &[Value]) -> Outcome {
    bed.change_slice(&json!({ "endpoints": endpoints }))
}

/// A Service that becomes another name of a host is served no more, and is again when it is an ordinary one again.
fn excluded(bed: &Bed) -> Outcome {
    bed.serves(&[1, 2])?;
    bed.change_service(&json!({ "spec": { "type": "ExternalName", "externalName": "web.example" } }))?;
    bed.gets(POD, WEB, &Answer::Silence)?;
    bed.gets(OUTSIDE, (NODE, NODE_PORT), &Answer::Refused)?;
    let ports = json!([
        { "name": "http", "protocol": "TCP", "port": WEB.1, "targetPort": 8080, "nodePort": NODE_PORT },
        { "name": "words", "protocol": "UDP", "port": WEB.1, "targetPort": 8080, "nodePort": NODE_PORT },
    ]);
    let ordinary =
        json!({ "type": "NodePort", "externalName": null, "clusterIP": WEB.0, "clusterIPs": [WEB.0], "ports": ports });
    bed.change_service(&json!({ "spec": ordinary }))?;
    bed.serves(&[1, 2])?;
    // The endpoints are those of a Service that the proxy never has an address of.
    let headless = json!({ "metadata": { "name": "headless" },
        "spec": { "clusterIP": "None", "ports": [{ "name": "http", "port": 8080 }] } });
    bed.create_service(&headless)
}

/// Endpoints that are not ready get nothing; those that terminate and serve do where none is ready.
fn conditions(bed: &Bed) -> Outcome {
    let state = |ready: bool, serving: bool, terminating: bool| json!({ "conditions": { "ready": ready, "serving": serving, "terminating": terminating } });
    let leaving = endpoint(2, "n2", state(false, true, true));
    let unready = endpoint(3, "n2", state(false, false, false));
    set_endpoints(bed, &[endpoint(1, "n2", json!({})), leaving.clone(), unready.clone()])?;
    bed.serves(&[1])?;
    set_endpoints(bed, &[endpoint(1, "n2", state(false, false, true)), leaving, unready.clone()])?;
    bed.serves(&[2])?;
    set_endpoints(bed, &[unready])?;
    bed.gets(POD, WEB, &Answer::Refused)?;
    // As the slices' controller publishes what is not ready, where the Service says so.
    set_endpoints(bed, &[endpoint(1, "n2", state(true, false, true)), endpoint(3, "n2", state(true, false, false))])?;
    bed.serves(&[1, 3])
}

fn hints(bed: &Bed) -> Outcome {
    let label = |zone: Option<&str>| json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } });
    let hinted = |n, zone: &str, node: Option<&str>| {
        let nodes = node.map(|node| json!([{ "name": node }]));
        endpoint(n, "n2", json!({ "hints": { "forZones": [{ "name": zone }], "forNodes": nodes } }))
    };
    let zones = [hinted(1, "z1", None), hinted(2, "z2", None)];
    set_endpoints(bed, &zones)?;
    bed.serves(&[1, 2])?;
    bed.server.patch("/api/v1/nodes/n1", &label(Some("z1")))?;
    bed.serves(&[1])?;
    bed.server.patch("/api/v1/nodes/n1", &label(Some("z2")))?;
    bed.serves(&[2])?;
    set_endpoints(bed, &[hinted(1, "z1", None), hinted(2, "z2", None), endpoint(3, "n2", json!({}))])?;
    bed.serves(&[1, 2, 3])?;
    set_endpoints(bed, &[hinted(1, "z1", Some("n1")), hinted(2, "z2", Some("n2"))])?;
    bed.serves(&[1])?;
    set_endpoints(bed, &[hinted(3, "z1", Some("n3")), hinted(2, "z2", Some("n2"))])?;
    bed.serves(&[2])?;
    bed.server.patch("/api/v1/nodes/n1", &label(None))?;
    bed.serves(&[2, 3])
}

/// The node itself reaches node ports on loopback, under `externalTrafficPolicy: Local` only endpoints of its own.
fn loopback(bed: &Bed) -> Outcome {
    let (node, to) = (NODE.into(), (Ipv4Addr::LOCALHOST, NODE_PORT));
    let set_policy = |policy: &str| bed.change_service(&json!({ "spec": { "externalTrafficPolicy": policy } }));
    set_endpoints(bed, &[endpoint(1, "n2", json!({})), endpoint(2, "n2", json!({}))])?;
    bed.reaches(node, to, Protocol::Tcp, &[1, 2])?;
    set_policy("Local")?;
    bed.gets(node, to, &Answer::Refused)?;
    set_endpoints(bed, &[endpoint(1, "n1", json!({})), endpoint(2, "n2", json!({}))])?;
    bed.reaches(node, to, Protocol::Tcp, &[1])?;
    set_policy("Cluster")?;
    bed.reaches(node, to, Protocol::Tcp, &[1, 2])
}

/// The addresses that a load balancer's controller writes into the status.
fn load_balancer(bed: &Bed) -> Outcome {
    set_endpoints(bed, &[endpoint(1, "n2", json!({})), endpoint(2, "n2", json!({}))])?;
    bed.change_service(&json!({ "spec": { "type": "LoadBalancer" } }))?;
    // Nobody listens there where the node does not take the packets.
    bed.fabric.node("n2").namespace().ip(&format!("addr add {} dev lo\naddr add {} dev lo", VIP.0, PROXIED.0))?;
    bed.node().ip("route add 198.51.100.0/24 via 192.168.1.12")?;
    let ingress = json!([{ "ip": VIP.0, "ipMode": "VIP" }, { "ip": PROXIED.0, "ipMode": "Proxy" }]);
    bed.change_service_status(&json!({ "loadBalancer": { "ingress": ingress } }))?;
    bed.reaches_masqueraded(POD, VIP, &[1, 2])?;
    bed.gets(POD, PROXIED, &Answer::Refused)?;
    let ingress = json!([{ "ip": VIP.0, "ipMode": "Proxy" }, { "ip": PROXIED.0 }]);
    bed.change_service_status(&json!({ "loadBalancer": { "ingress": ingress } }))?;
    bed.reaches_masqueraded(POD, PROXIED, &[1, 2])?;
    bed.gets(POD, VIP, &Answer::Refused)
}

/// A load balancer asks each node whether it has endpoints.
fn health_check(bed: &Bed) -> Outcome {
    let local = json!({ "spec": { "externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH } });
    bed.change_service(&local)?;
    let answers = |local: u8| {
        eventually(seconds(30), &format!("the health check says {local}"), || {
            let url = format!("http://{NODE}:{HEALTH}/any");
            let answer = bed.outside().run(&format!("curl --silent --include --max-time 5 {url}"))?;
            let (head, body) = answer.split_once("\r\n\r\n").context(format!("no head: {answer}"))?;
            let head = head.to_lowercase();
            let code = if local > 0 { "200 ok" } else { "503 service unavailable" };
            let weight = format!("x-load-balancing-endpoint-weight: {local}");
            for line in ["content-type: application/json", "x-content-type-options: nosniff", &weight] {
                ensure!(head.lines().any(|known| known == line), "{line} is missing in {head}");
            }
            let expected = format!(
                "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
                 \"serviceProxyHealthy\": true\n}}"
            );
            ensure!(head.starts_with(&format!("http/1.1 {code}")) && body == expected, "it answers {answer}");
            Ok(())
        })
    };
    answers(0)?;
    bed.gets(OUTSIDE, (NODE, NODE_PORT), &Answer::Silence)?;
    set_endpoints(bed, &[endpoint(1, "n1", json!({})), endpoint(2, "n1", json!({})), endpoint(3, "n2", json!({}))])?;
    answers(2)?;
    let leaving = json!({ "conditions": { "ready": false, "serving": true, "terminating": true } });
    set_endpoints(bed, &[endpoint(1, "n1", leaving), endpoint(3, "n2", json!({}))])?;
    answers(0)?;
    set_endpoints(bed, &[endpoint(1, "n1", json!({})), endpoint(3, "n2", json!({}))])?;
    answers(1)?;
    let unused = json!({ "spec": { "externalTrafficPolicy": "Cluster", "healthCheckNodePort": null } });
    bed.change_service(&unused)?;
    eventually(seconds(30), "nobody answers health checks", || {
        let url = format!("http://{NODE}:{HEALTH}");
        ensure!(bed.outside().run(&format!("curl --silent --max-time 5 {url}")).is_err(), "somebody answers");
        Ok(())
    })
}

fn affinity(bed: &Bed) -> Outcome {
    bed.set_endpoints(&[1, 2, 3])?;
    bed.serves(&[1, 2, 3])?;
    bed.change_service(&json!({ "spec": { "sessionAffinity": "ClientIP" } }))?;
    // Which one is a matter of chance.
    eventually(seconds(30), "the pod stays with one endpoint", || {
        let seen = bed.sees(POD, WEB, Protocol::Tcp, 30)?;
        ensure!(seen.len() == 1, "it is sent to {seen:?}");
        Ok(())
    })?;
    bed.change_service(&json!({ "spec": { "sessionAffinity": "None", "sessionAffinityConfig": null } }))?;
    bed.serves(&[1, 2, 3])
}
