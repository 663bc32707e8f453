//! Nodes that have ranges of both families, and a network that has one.

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Outcome, Pod, Stack, Topology, ensure, net_conf};
use serde_json::json;

use crate::bed::{Bed, path, ranges};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |stack| test(format!("podCIDRs of both families, and a network of one/{stack:?}"), move || one(stack));
    [Stack::V4, Stack::V6].map(trial).into()
}

fn one(stack: Stack) -> Outcome {
    let conf = net_conf(stack, &json!({ "Type": "vxlan" }));
    let bed = Bed::bare(&Topology::one_segment(Stack::Dual).with("api", 1), &conf)?;
    bed.add_nodes(Stack::Dual)?;
    let daemons = [bed.start("n1", &[])?, bed.start("n2", &[])?];
    let with_logs = |failure: netd_tests::Failure| failure.with("n1", &daemons[0].log()).with("n2", &daemons[1].log());
    let pods = [Pod::add(bed.node("n1"), "a")?, Pod::add(bed.node("n2"), "b")?];
    ensure!(pods[0].addresses().families().eq(stack.families()), "the pod has {:?}", pods[0].addresses());
    for (_, address) in pods[1].addresses().iter() {
        netd_tests::eventually(netd_tests::seconds(20), "pods talk", || {
            pods[0].namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop)
        })
        .map_err(with_logs)?;
    }
    let planned = bed.run("n1", "plan")?;
    ensure!(planned.trim().is_empty(), "netd plan says\n{planned}");

    let name = if stack == Stack::V4 { "backend-data" } else { "backend-v6-data" };
    let data = bed.annotation("n1", name)?;
    bed.annotate("n1", &json!({ name: r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:99"}"# }))?;
    bed.await_annotation("n1", name, &data).map_err(with_logs)?;
    let object = bed.server.get(&path("n1"))?["metadata"]["annotations"].to_string();
    ensure!(object.contains("backend-v6-data") == (stack == Stack::V6), "n1 says {object}");
    let [daemon, _other] = daemons;
    daemon.terminate()?;
    let status = bed.run("n1", "status")?;
    for range in ranges("n1", Stack::Dual) {
        let has = ranges("n1", stack).contains(&range);
        ensure!(status.contains(&range) == has, "netd status says of {range}\n{status}");
    }
    Ok(())
}
