//! Real clusters: control plane, kubelets, containerd, runc, and netd as its manifest installs it.

#[path = "cluster/flannel.rs"]
mod flannel;

use std::process::ExitCode;

use dataplane::words::Family;
use netd_tests::kubernetes::{self, Kubernetes, RealPod};
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, eventually, flow, net_conf, peers, seconds};
use serde_json::json;

use flannel::Flannel;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || {
            kubernetes::watch_over()?;
            let programs: Vec<_> = kubernetes::programs().into_iter().chain([peers::FLANNELD]).collect();
            peers::prepare(&programs)
        },
        || vec![test("pods of three nodes talk, with flanneld's network", with_flannel)],
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
    let mut pods = Vec::new();
    for name in NODES {
        pods.push(cluster.pod(name, &format!("pod-{name}"))?);
    }
    talk(&pods)
}

/// Every pod reaches every other, untranslated.
fn talk(pods: &[RealPod]) -> Outcome {
    for from in pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            for (family, address) in to.addresses().iter() {
                let family: Family = family;
                let source = from.address(family)?;
                eventually(seconds(30), &format!("{} reaches {}", from.name(), to.name()), || {
                    flow::ping(from.namespace(), *address)
                })?;
                flow::all(from.namespace(), source, to.namespace(), *address)?;
            }
        }
    }
    Ok(())
}
