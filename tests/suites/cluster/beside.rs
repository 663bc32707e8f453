//! netd beside real flanneld and in its place, node by node, while the pods that flannel's plugins made talk on; and back.

use libtest_mimic::Trial;
use netd_tests::kubernetes::RealPod;
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Told, Topology, ensure, eventually, net_conf, seconds};
use serde_json::json;

use crate::bed::{Bed, NODES, manifests};
use crate::flannel::{self, Flannel};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a cluster is taken over from flannel node by node, and given back, under flows/vxlan", || {
            take_over("vxlan")
        }),
        test("a cluster is taken over from flannel node by node, and given back, under flows/host-gw", || {
            take_over("host-gw")
        }),
    ]
}

/// A cluster with flannel as its network: flanneld on each node, pods by `bridge` and `host-local`.
fn with_flannel(backend: &str) -> Outcome<(Bed, Vec<Flannel>)> {
    let topology =
        if backend == "vxlan" { Topology::two_segments(Stack::V4) } else { Topology::one_segment(Stack::V4) };
    let mut bed = Bed::empty(&topology, Stack::V4)?;
    let conf = net_conf(Stack::V4, &json!({ "Type": backend }));
    let server = &bed.cluster.server;
    server.create("/api/v1/namespaces", &json!({ "metadata": { "name": "kube-flannel" } }))?;
    let map = json!({ "metadata": { "name": "kube-flannel-cfg" }, "data": {
        "net-conf.json": conf.to_string(), "cni-conf.json": flannel::CNI_CONF } });
    server.create("/api/v1/namespaces/kube-flannel/configmaps", &map)?;
    let mut daemons = Vec::new();
    for name in NODES {
        daemons.push(Flannel::start(&bed.cluster, name, &conf)?);
        flannel::install_conflist(&bed.cluster, name)?;
    }
    for name in NODES {
        bed.pods.push(bed.cluster.pod(name, &format!("pod-{name}")).map_err(|failure| bed.told(failure))?);
    }
    Ok((bed, daemons))
}

fn take_over(backend: &str) -> Outcome {
    let (mut bed, daemons) = with_flannel(backend)?;
    let conf = net_conf(Stack::V4, &json!({ "Type": backend }));
    let overlay = manifests().join("overlays/from-flannel");
    bed.cluster.server.kubectl(&["apply", "--validate=strict", "-k", &overlay.to_string_lossy()])?;
    let mut fresh = Vec::new();
    bed.under_load(|bed| {
        for (name, daemon) in NODES.into_iter().zip(daemons) {
            drop(daemon);
            bed.cluster.server.kubectl(&["label", "node", name, "pod-network=netd"])?;
            bed.await_netd(name)?;
            fresh.push(bed.cluster.pod(name, &format!("fresh-{name}")).map_err(|failure| bed.told(failure))?);
            bed.talk()?;
        }
        Ok(())
    })?;
    bed.pods.append(&mut fresh);
    same_bridge(&bed.pods)?;
    let mut daemons = Vec::new();
    bed.under_load(|bed| {
        for name in NODES {
            bed.cluster.server.kubectl(&["label", "node", name, "pod-network-"])?;
            eventually(seconds(90), &format!("netd leaves {name}"), || {
                let left = bed.cluster.machine(name).process("netd");
                ensure!(left.is_err(), "it runs");
                Ok(())
            })?;
            daemons.push(Flannel::start(&bed.cluster, name, &conf)?);
            bed.talk()?;
        }
        Ok(())
    })?;
    drop(daemons);
    bed.nothing_was_refused()
}

/// The pods of both plugins have one subnet on each node.
fn same_bridge(pods: &[RealPod]) -> Outcome {
    for name in NODES {
        let own = pods.iter().filter(|pod| pod.name().ends_with(name));
        let mut subnets = own.map(|pod| {
            let (_, address) = pod.addresses().iter().next().told("the pod has no address")?;
            Ok(address.to_string().rsplit_once('.').map(|(subnet, _)| subnet.to_owned()))
        });
        let first = subnets.next().told("the node has a pod")??;
        for subnet in subnets {
            let subnet: Option<String> = subnet?;
            ensure!(subnet == first, "pods on {name} are in {first:?} and {subnet:?}");
        }
    }
    Ok(())
}
