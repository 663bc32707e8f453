//! From an empty cluster to pods that talk, by one manifest; and another netd in the place of each.

use libtest_mimic::Trial;
use netd_tests::kubernetes::Ranges;
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, ensure};
use serde_json::json;

use crate::bed::{Bed, NODES};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test(
            "one manifest, and pods talk; a rolling update loses nothing, and netd asks for no more than it may",
            || install(Stack::V4),
        ),
        test("the same with IPv6 alone, by the overlay", || install(Stack::V6)),
        test("dual stack by the overlay", dual),
        test("a node without a podCIDR is reported, and gets its network when it has one", late),
    ]
}

fn install(stack: Stack) -> Outcome {
    let mut bed = Bed::start(&Topology::two_segments(stack), stack)?;
    have(&bed, stack)?;
    let before = processes(&bed)?;
    bed.under_load(|bed| {
        bed.cluster.server.kubectl(&["--namespace=netd", "rollout", "restart", "daemonset/netd"])?;
        bed.await_rollout()
    })?;
    let after = processes(&bed)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} became {after:?}");
    bed.talk()?;
    bed.nothing_was_refused()
}

fn processes(bed: &Bed) -> Outcome<Vec<i32>> {
    NODES.iter().map(|name| bed.cluster.machine(name).process("netd")).collect()
}

/// Pods have addresses of these families, and no other.
fn have(bed: &Bed, stack: Stack) -> Outcome {
    for pod in &bed.pods {
        let fits = pod.addresses().families().eq(stack.families());
        ensure!(fits, "{} has the addresses {:?}", pod.name(), pod.addresses());
    }
    Ok(())
}

fn dual() -> Outcome {
    let bed = Bed::start(&Topology::two_segments(Stack::Dual), Stack::Dual)?;
    have(&bed, Stack::Dual)?;
    bed.talk()?;
    bed.nothing_was_refused()
}

fn late() -> Outcome {
    let mut bed = Bed::with_ranges(&Topology::two_segments(Stack::V4), Stack::V4, Ranges::ByHand)?;
    let give = |bed: &Bed, name: &str, range: &str| {
        let spec = json!({ "spec": { "podCIDR": range, "podCIDRs": [range] } });
        bed.cluster.server.patch(&format!("/api/v1/nodes/{name}"), &spec).map(drop)
    };
    give(&bed, "n1", "10.244.1.0/24")?;
    give(&bed, "n2", "10.244.2.0/24")?;
    bed.apply_alone()?;
    for name in ["n1", "n2"] {
        bed.pods.push(bed.cluster.pod(name, &format!("pod-{name}")).map_err(|failure| bed.with_logs(failure))?);
    }
    bed.talk()?;
    bed.await_warning("n3", "podCIDR")?;
    give(&bed, "n3", "10.244.3.0/24")?;
    bed.pods.push(bed.cluster.pod("n3", "pod-n3").map_err(|failure| bed.with_logs(failure))?);
    bed.talk()
}
