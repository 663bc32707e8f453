//! Two machines with one node name.

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Failure, Outcome, Stack, ensure, eventually, net_conf, seconds};
use serde_json::{Value, json};

use crate::bed::{Bed, flannels, path, routed};

pub(crate) fn trials() -> Vec<Trial> {
    let what = "of two machines with one name the first says so and does not fight";
    let trial = |backend| test(format!("{what}/{backend}"), move || twin(backend));
    ["vxlan", "host-gw"].map(trial).into()
}

/// The machine that came second has the record. Nothing tells it from a node that has got another address.
fn twin(backend: &str) -> Outcome {
    let bed = Bed::with(&net_conf(Stack::V4, &json!({ "Type": backend })))?;
    // With a peer from the beginning, n1 needs to publish nothing for later ones.
    let annotations = |n: u8| {
        let mut annotations = flannels(n);
        if backend == "host-gw" {
            (annotations["backend-type"], annotations["backend-data"]) = ("host-gw".into(), "null".into());
        }
        annotations
    };
    bed.add_node("peer", &["10.244.77.0/24"], &annotations(77))?;
    let first = bed.start("n1", &[])?;
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(|failure| failure.with("netd on n1", &first.log()))?;
    let twin = bed.start("n2", &["--node-name", "n1"])?;
    let document = || -> Outcome<Value> {
        let flags = [bed.flags("n1"), vec!["-o".to_owned(), "json".to_owned()]].concat();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let output = bed.node("n1").run_netd("status", &flags)?;
        serde_json::from_slice(&output.stdout).context("read the status")
    };
    let with_logs = |failure: Failure| failure.with("netd on n1", &first.log()).with("netd on n2", &twin.log());
    eventually(seconds(20), "n1 says that its name is taken, and is not ready", || {
        let seen = document()?;
        let says = seen["problems"].to_string().contains("192.168.1.12");
        ensure!(says && seen["ready"] == false, "ready: {}, {}", seen["ready"], seen["problems"]);
        Ok(())
    })
    .map_err(with_logs)?;
    bed.await_event("n1", "NodeNameTaken", "192.168.1.12").map_err(with_logs)?;
    // Both have read all that was before.
    let passes_on = |n: u8| {
        let range = format!("10.244.{n}.0/24");
        bed.add_node(&format!("after-{n}"), &[&range], &annotations(n))?;
        ["n1", "n2"].iter().try_for_each(|node| routed(bed.node(node), &range, true)).map_err(with_logs)
    };
    passes_on(78)?;
    let version = || Ok::<_, Failure>(bed.server.get(&path("n1"))?["metadata"]["resourceVersion"].clone());
    let before = version()?;
    passes_on(79)?;
    ensure!(version()? == before, "the Node is written again and again");
    ensure!(bed.annotation("n1", "public-ip")? == "192.168.1.12", "n1 has taken its Node back");

    twin.terminate()?;
    let flags = [bed.flags("n2"), vec!["--node-name".to_owned(), "n1".to_owned()]].concat();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = bed.node("n2").run_netd("cleanup", &flags)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bed.await_annotation("n1", "public-ip", "192.168.1.11")?;
    eventually(seconds(20), "n1 is ready again", || {
        let seen = document()?;
        ensure!(seen["ready"] == true, "{}", seen["problems"]);
        Ok(())
    })
    .map_err(|failure| failure.with("netd on n1", &first.log()))
}
