//! The backend changes in the `ConfigMap` while pods talk.

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, Stack, Topology, ensure, eventually, kernel, seconds};
use serde_json::json;

use crate::bed::{Bed, NODES};

pub(crate) fn trials() -> Vec<Trial> {
    vec![test("the ConfigMap's backend is taken under flows, and an invalid one refused", switch)]
}

fn switch() -> Outcome {
    let mut bed = Bed::start(&Topology::one_segment(Stack::V4), Stack::V4)?;
    let steps = [
        (json!({ "Type": "host-gw" }), "eth0"),
        (json!({ "Type": "vxlan" }), "flannel.1"),
        (json!({ "Type": "vxlan", "DirectRouting": true }), "eth0"),
        (json!({ "Type": "vxlan" }), "flannel.1"),
    ];
    bed.under_load(|bed| {
        for (backend, device) in &steps {
            bed.configure(backend)?;
            settled(bed, device).context(backend)?;
        }
        refused(bed)
    })?;
    settled(&bed, "flannel.1")?;
    bed.nothing_was_refused()
}

/// Waits until every node sends to every other by this device.
fn settled(bed: &Bed, device: &str) -> Outcome {
    for from in NODES {
        NODES.into_iter().filter(|to| *to != from).try_for_each(|to| sends(bed, from, to, device))?;
    }
    Ok(())
}

/// Waits until a node sends to another one by this device.
pub(crate) fn sends(bed: &Bed, from: &str, to: &str, device: &str) -> Outcome {
    let node = bed.cluster.server.get(&format!("/api/v1/nodes/{to}"))?;
    let range = node["spec"]["podCIDR"].as_str().context("the node has no podCIDR")?;
    eventually(seconds(60), &format!("{from} sends to {to} by {device}"), || {
        let route = kernel::route(bed.cluster.machine(from).namespace(), Family::V4, range)?;
        ensure!(route.as_ref().is_some_and(|route| route["dev"] == device), "the route is {route:?}");
        Ok(())
    })
    .map_err(|failure| bed.with_logs(failure))
}

/// A configuration that cannot be read becomes an Event of each Node, and changes nothing.
fn refused(bed: &Bed) -> Outcome {
    bed.write_conf("{ \"Network\": ")?;
    NODES.iter().try_for_each(|name| bed.await_warning(name, "net-conf.json"))?;
    settled(bed, "flannel.1")?;
    bed.configure(&json!({ "Type": "vxlan" }))
}
