//! The API server of the test bed against itself, without netd: it is a real one, it refuses, it comes back, and nothing stays.

use std::process::ExitCode;

use netd_tests::apiserver::{self, ApiServer, Credentials, MANY_IMAGES, node_object};
use netd_tests::suite::test;
use netd_tests::{Context, Fabric, Outcome, Stack, Topology, ensure, eventually, peers, seconds};
use serde_json::json;

/// The node authorizer knows a node by its name, and `n1` is one.
const NODE: &str = "/api/v1/nodes/n1";

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || peers::prepare(&apiserver::PROGRAMS),
        || {
            vec![
                test("it is reached from another segment, and answers with its version", reached),
                test("RBAC and the node authorizer let nobody do more than they may", refuses),
                test("a manifest with a field that does not exist is refused", strict),
                test("away and back, it has what it had, and so after etcd's crash", back),
                test("many large Nodes are written at once", many),
                test("it ends with the bed", ends),
            ]
        },
    )
}

fn bed() -> Outcome<(Fabric, ApiServer)> {
    let fabric = Topology::two_segments(Stack::V4).with("api", 1).build()?;
    let server = ApiServer::start(&fabric, "api", Stack::V4)?;
    Ok((fabric, server))
}

fn reached() -> Outcome {
    let (fabric, server) = bed()?;
    let version = server.get("/version")?;
    ensure!(version["gitVersion"] == "v1.36.3" && version["minor"] == "36", "it says that it is {version}");
    let kubectl = peers::KUBECTL.path()?;
    let kubeconfig = server.node_kubeconfig("n3")?;
    let line = format!("{} --kubeconfig {} get --raw /readyz", kubectl.display(), kubeconfig.display());
    let said = fabric.node("n3").namespace().run(&line)?;
    ensure!(said == "ok", "n3 got {said}");
    Ok(())
}

fn refuses() -> Outcome {
    let (_fabric, server) = bed()?;
    for name in ["n1", "n2"] {
        server.create("/api/v1/nodes", &node_object(name, &["10.244.1.0/24"], &json!({}), 0))?;
    }
    let n1 = Credentials::node_token("n1");
    let label = |node: &'static str| ["label", "node", node, "example.com/rack=7"];
    let said = server.refused(&n1, &label("n2"))?;
    ensure!(said.contains("only its own Node object"), "n1, on n2's Node, got: {said}");
    let own = server.kubeconfig("n1", &n1)?;
    let own = own.to_string_lossy();
    server.kubectl(&[&["--kubeconfig", &*own], &label("n1")[..]].concat())?;

    server.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [nodes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
",
    )?;
    let reader = server.account_token("default", "reader")?;
    let kubeconfig = server.kubeconfig("reader", &reader)?;
    let kubeconfig = kubeconfig.to_string_lossy();
    server.kubectl(&["--kubeconfig", &kubeconfig, "get", "node", "n1"])?;
    let said = server.refused(&reader, &["get", "nodes"])?;
    ensure!(said.contains("cannot list resource \"nodes\""), "the reader got: {said}");
    let said = server.refused("no-token-of-anybody", &["get", "node", "n1"])?;
    ensure!(said.contains("Unauthorized") || said.contains("logged in"), "a stranger got: {said}");

    let reader = |event: &serde_json::Value| event["user"]["username"] == "system:serviceaccount:default:reader";
    eventually(seconds(20), "the audit log has what the reader did", || {
        let requests = server.requests()?;
        let codes: Vec<_> =
            requests.iter().filter(|event| reader(event)).map(|event| &event["responseStatus"]["code"]).collect();
        ensure!(codes.iter().any(|code| **code == 403) && codes.iter().any(|code| **code == 200), "it has {codes:?}");
        Ok(())
    })
}

fn strict() -> Outcome {
    let (_fabric, server) = bed()?;
    let manifest = |field: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: it, namespace: default}}\n{field}: {{a: b}}\n")
    };
    let refused = server.apply(&manifest("dato"));
    ensure!(refused.is_err(), "`dato` was accepted: {refused:?}");
    server.apply(&manifest("data"))?;
    let map = server.get("/api/v1/namespaces/default/configmaps/it")?;
    ensure!(map["data"]["a"] == "b", "it holds {map}");
    Ok(())
}

fn back() -> Outcome {
    let (fabric, mut server) = bed()?;
    server.create("/api/v1/nodes", &node_object("n1", &["10.244.1.0/24"], &json!({ "example.com/a": "b" }), 3))?;
    let before = server.patch(NODE, &json!({ "metadata": { "annotations": { "example.com/c": "d" } } }))?;
    server.create("/api/v1/namespaces/default/serviceaccounts", &json!({ "metadata": { "name": "it" } }))?;
    let token = server.account_token("default", "it")?;
    server.stop()?;
    ensure!(server.get(NODE).is_err(), "it answers, though it is stopped");
    server.resume()?;
    let after = server.get(NODE)?;
    ensure!(before == after, "it was {before}, and is {after}");
    server.kill_etcd()?;
    server.resume_etcd(&fabric, "api")?;
    let after = server.get(NODE)?;
    ensure!(before == after, "it was {before}, and after etcd's crash is {after}");
    let said = server.refused(&token, &["get", "nodes"])?;
    ensure!(said.contains("cannot list"), "a token from before is of nobody: {said}");
    Ok(())
}

fn many() -> Outcome {
    const COUNT: usize = 500;
    let (_fabric, server) = bed()?;
    server.create_many("/api/v1/nodes", COUNT, |number| {
        let range = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
        node_object(&format!("peer-{number:05}"), &[&range], &json!({}), MANY_IMAGES)
    })?;
    let list = server.get("/api/v1/nodes")?;
    let nodes = list["items"].as_array().context("no items")?;
    ensure!(nodes.len() == COUNT, "{} Nodes are there", nodes.len());
    let images = nodes[0]["status"]["images"].as_array().map_or(0, Vec::len);
    ensure!(images == MANY_IMAGES, "one has {images} images");
    Ok(())
}

fn ends() -> Outcome {
    let (fabric, server) = bed()?;
    let listening = || fabric.node("api").namespace().run("ss -Hltn");
    ensure!(listening()?.contains(":6443"), "the API server is ready, and nobody listens");
    drop(server);
    let listening = listening()?;
    ensure!(listening.is_empty(), "somebody listens still: {listening}");
    Ok(())
}
