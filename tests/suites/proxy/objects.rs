//! Objects that the API server accepts, changes and deletes, seen by packets.

use std::net::Ipv4Addr;
use std::process::Command;

use netd_tests::daemon::Daemon;
use netd_tests::{Context, Outcome, binaries, ensure, eventually, seconds};
use serde_json::json;

use crate::ask::{Answer, Protocol};
use crate::bed::{Bed, NODE, NODE_PORT, OTHER, OUTSIDE, POD, WEB};

/// Where a Pod finds its own account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// The API server's own Service.
const API: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 1), 443);

/// netd-proxy as a container runs it: the account's files, and the API server in the environment.
fn in_cluster(bed: &Bed) -> Outcome<Daemon> {
    let script = format!(
        "mkdir -p {ACCOUNT}; mount -t tmpfs tmpfs {ACCOUNT}; cp {ca} {ACCOUNT}/ca.crt; printf %s {token} >{ACCOUNT}/token
        printf default >{ACCOUNT}/namespace
        exec {program} --hostname-override=n1 --cluster-cidr=10.244.0.0/16",
        ca = bed.server.credentials().file("ca.pem").display(),
        token = bed.token,
        program = binaries::proxy()?.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    let address = bed.fabric.node("api").first_address();
    command.env("KUBERNETES_SERVICE_HOST", address.to_string()).env("KUBERNETES_SERVICE_PORT", "6443");
    bed.launch(command, "netd-proxy")
}

pub(crate) fn in_force() -> Outcome {
    let bed = Bed::start()?;
    let daemon = in_cluster(&bed)?;
    let steps = [endpoints, labels, ranges, node, deletions];
    steps.iter().try_for_each(|step| step(&bed)).map_err(|failure| bed.with_logs(failure, &daemon))?;
    bed.nothing_was_refused()
}

fn endpoints(bed: &Bed) -> Outcome {
    bed.serves(&[1, 2])?;
    bed.reaches(POD, WEB, Protocol::Udp, &[1, 2])?;
    bed.set_endpoints(&[2, 3])?;
    bed.serves(&[2, 3])?;
    bed.reaches(OUTSIDE, (NODE, NODE_PORT), Protocol::Udp, &[2, 3])?;
    // The API server makes this Service and its endpoints itself.
    let url = format!("https://{}/livez", API.0);
    eventually(seconds(20), "the API server is reached by its own Service", || {
        let code =
            bed.pod.run(&format!("curl --insecure --silent --max-time 5 -o /dev/null -w %{{http_code}} {url}"))?;
        ensure!(code == "200" || code == "401", "it answers {code}");
        Ok(())
    })
}

/// What another proxy is to serve, and what has no cluster IP to serve, is left alone.
fn labels(bed: &Bed) -> Outcome {
    let change = |label: &str, value: Option<&str>| json!({ "metadata": { "labels": { label: value } } });
    for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
        bed.change_service(&change(label, Some("another")))?;
        bed.gets(POD, WEB, &Answer::Silence)?;
        bed.gets(OUTSIDE, (NODE, NODE_PORT), &Answer::Refused)?;
        bed.change_service(&change(label, None))?;
        bed.serves(&[2, 3])?;
        bed.change_slice(&change(label, Some("another")))?;
        bed.gets(POD, WEB, &Answer::Refused)?;
        bed.change_slice(&change(label, None))?;
        bed.serves(&[2, 3])?;
    }
    Ok(())
}

/// What has no Service is dropped within the ranges of cluster IPs, and goes its way outside of them.
fn ranges(bed: &Bed) -> Outcome {
    let unused = (Ipv4Addr::new(10, 97, 0, 1), 80);
    bed.gets(POD, (Ipv4Addr::new(10, 96, 9, 9), 80), &Answer::Silence)?;
    bed.fabric.node("n2").namespace().ip("addr add 10.97.0.1 dev lo")?;
    bed.node().ip("route add 10.97.0.0/16 via 192.168.1.12")?;
    bed.gets(POD, unused, &Answer::Refused)?;
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.97.0.0/16"] } });
    bed.server.create("/apis/networking.k8s.io/v1/servicecidrs", &more)?;
    bed.gets(POD, unused, &Answer::Silence)
}

/// Node ports are on the Node's addresses, and health checks say that the node is about to go.
fn node(bed: &Bed) -> Outcome {
    let path = "/api/v1/nodes/n1";
    let at = |address: Ipv4Addr| json!({ "status": { "addresses": [{ "type": "InternalIP", "address": address }] } });
    bed.server.patch(&format!("{path}/status"), &at(OTHER))?;
    bed.gets(OUTSIDE, (NODE, NODE_PORT), &Answer::Refused)?;
    eventually(seconds(20), "the node port is at the other address", || {
        let curl = format!("curl --silent --http0.9 --max-time 5 http://{OTHER}:{NODE_PORT}");
        bed.outside().run(&curl).map(drop)
    })?;
    bed.server.patch(&format!("{path}/status"), &at(NODE))?;
    bed.serves(&[2, 3])?;
    let healthz = |wanted: &str| {
        eventually(seconds(20), &format!("/healthz answers {wanted}"), || {
            let url = "http://127.0.0.1:10256/healthz";
            let code = bed.node().run(&format!("curl --silent --max-time 5 -o /dev/null -w %{{http_code}} {url}"))?;
            ensure!(code == wanted, "it answers {code}");
            Ok(())
        })
    };
    healthz("200")?;
    let taint = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule" }]);
    bed.server.patch(path, &json!({ "spec": { "taints": taint } })).context("taint the node")?;
    healthz("503")?;
    bed.server.patch(path, &json!({ "spec": { "taints": [] } }))?;
    healthz("200")
}

fn deletions(bed: &Bed) -> Outcome {
    bed.delete_slice()?;
    bed.gets(POD, WEB, &Answer::Refused)?;
    bed.gets(OUTSIDE, (NODE, NODE_PORT), &Answer::Refused)?;
    bed.delete_service()?;
    bed.gets(POD, WEB, &Answer::Silence)
}
