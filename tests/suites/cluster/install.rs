//! From an empty cluster to pods that talk, by one manifest; and another netd in the place of each.

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, ensure};

use crate::bed::{Bed, NODES};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test(
            "one manifest, and pods talk; a rolling update loses nothing, and netd asks for no more than it may",
            install,
        ),
        test("dual stack by the overlay", dual),
    ]
}

fn install() -> Outcome {
    let mut bed = Bed::start(&Topology::two_segments(Stack::V4), Stack::V4)?;
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

fn dual() -> Outcome {
    let bed = Bed::start(&Topology::two_segments(Stack::Dual), Stack::Dual)?;
    for pod in &bed.pods {
        ensure!(pod.addresses().iter().count() == 2, "{} has the addresses {:?}", pod.name(), pod.addresses());
    }
    bed.talk()?;
    bed.nothing_was_refused()
}
