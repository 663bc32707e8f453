//! Real clusters: control plane, kubelets, containerd, runc, and netd as its manifest installs it.

#[path = "cluster/bed.rs"]
mod bed;
#[path = "cluster/flannel.rs"]
mod flannel;
#[path = "cluster/install.rs"]
mod install;
#[path = "cluster/outage.rs"]
mod outage;
#[path = "cluster/switch.rs"]
mod switch;

use std::process::ExitCode;

use netd_tests::kubernetes::{self, Kubernetes, RealPod};
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, net_conf, peers};
use serde_json::json;

use bed::NODES;
use flannel::Flannel;

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || {
            kubernetes::watch_over()?;
            let programs: Vec<_> = kubernetes::programs().into_iter().chain([peers::FLANNELD]).collect();
            peers::prepare(&programs)
        },
        || {
            let mut trials = install::trials();
            trials.extend(switch::trials());
            trials.extend(outage::trials());
            trials.push(test("pods of three nodes talk, with flanneld's network", with_flannel));
            trials
        },
    )
}

fn with_flannel() -> Outcome {
    let cluster = Kubernetes::start(&Topology::two_segments(Stack::V4), Stack::V4)?;
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan" }));
    let mut daemons = Vec::new();
    for name in NODES {
        daemons.push(Flannel::start(&cluster, name, &conf)?);
        flannel::install_plugin(cluster.machine(name))?;
    }
    let pods = NODES.map(|name| cluster.pod(name, &format!("pod-{name}")));
    let pods = pods.into_iter().collect::<Outcome<Vec<_>>>()?;
    bed::all_talk(&pods.iter().collect::<Vec<&RealPod>>())
}
