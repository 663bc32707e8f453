//! netd beside real flannel and in its place, node by node, while the pods that flannel's plugins made talk on; and back.

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::kubernetes::RealPod;
use netd_tests::mixed::{range, topology};
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, Stack, ensure, eventually, net_conf, seconds};
use serde_json::json;

use crate::bed::{Bed, NODES};
use crate::readme;

/// As flannel's manifest has it.
const CNI_CONF: &str = r#"{ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
  { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }"#;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |(backend, stack)| {
        let what = "a cluster is taken over from flannel node by node, and given back, under flows";
        test(format!("{what}/{backend} {stack:?}"), move || take_over(backend, stack))
    };
    [("vxlan", Stack::V4), ("vxlan", Stack::Dual), ("host-gw", Stack::V4), ("host-gw", Stack::Dual)].map(trial).into()
}

/// A cluster with flannel as its network.
fn with_flannel(backend: &str, stack: Stack) -> Outcome<Bed> {
    let mut bed = Bed::empty(&topology(backend, stack), stack)?;
    let image = bed.cluster.images.flannel()?;
    for machine in &bed.cluster.machines {
        machine.load(std::slice::from_ref(&image))?;
    }
    let server = &bed.cluster.server;
    server.apply(include_str!("flannel.yml"))?;
    let conf = net_conf(stack, &json!({ "Type": backend })).to_string();
    let map = json!({ "metadata": { "name": "kube-flannel-cfg" }, "data": {
        "net-conf.json": conf, "cni-conf.json": CNI_CONF } });
    server.create("/api/v1/namespaces/kube-flannel/configmaps", &map)?;
    await_flannel(&bed)?;
    add_pods(&mut bed, "pod")?;
    Ok(bed)
}

/// Waits until flannel runs on each node that it is to run on.
fn await_flannel(bed: &Bed) -> Outcome {
    let arguments = ["--namespace=kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds", "--timeout=180s"];
    bed.cluster.server.kubectl(&arguments).map(drop).map_err(|failure| with_logs(bed, failure))
}

fn with_logs(bed: &Bed, failure: netd_tests::Failure) -> netd_tests::Failure {
    let arguments = ["--namespace=kube-flannel", "logs", "--selector=app=flannel", "--tail=40", "--prefix"];
    let logs = bed.cluster.server.kubectl(&arguments).unwrap_or_else(|failure| failure.to_string());
    bed.with_logs(failure).with("flannel", &logs)
}

/// A pod more on each node.
fn add_pods(bed: &mut Bed, name: &str) -> Outcome {
    NODES.iter().try_for_each(|node| add_pod(bed, name, node))
}

fn add_pod(bed: &mut Bed, name: &str, node: &str) -> Outcome {
    let pod = bed.cluster.pod(node, &format!("{name}-{node}")).map_err(|failure| with_logs(bed, failure))?;
    bed.pods.push(pod);
    Ok(())
}

fn take_over(backend: &str, stack: Stack) -> Outcome {
    let mut bed = with_flannel(backend, stack)?;
    NODES.iter().try_for_each(|name| await_rules(&bed, name, true))?;
    let steps = readme::commands("### From flannel, node by node")?;
    let (prepare, label, rest) = readme::apart(steps, "kubectl label node NODE pod-network=netd")?;
    let (wait, back, _) = readme::apart(rest, "kubectl label node NODE pod-network-")?;
    bed.under_load(|bed| {
        bed.cluster.server.shell(prepare)?;
        for name in NODES {
            bed.cluster.server.shell(&format!("{label}{wait}").replace("NODE", name))?;
            bed.await_netd(name)?;
            await_rules(bed, name, false)?;
            add_pod(bed, "fresh", name)?;
            bed.talk()?;
        }
        Ok(())
    })?;
    same_bridge(&bed.pods)?;
    bed.under_load(|bed| {
        for name in NODES {
            bed.cluster.server.shell(&back.replace("NODE", name))?;
            eventually(seconds(90), &format!("netd leaves {name}"), || {
                let left = bed.cluster.machine(name).process("netd");
                ensure!(left.is_err(), "it runs");
                Ok(())
            })?;
            await_flannel(bed)?;
            await_rules(bed, name, true)?;
            add_pod(bed, "again", name)?;
            bed.talk()?;
        }
        uninstall(bed)
    })?;
    same_bridge(&bed.pods)?;
    bed.nothing_was_refused()
}

/// Waits until flannel's rules are on a node, or gone from it.
fn await_rules(bed: &Bed, node: &str, there: bool) -> Outcome {
    let what = if there { "has flannel's rules" } else { "has none of flannel's rules" };
    eventually(seconds(60), &format!("{node} {what}"), || {
        for family in bed.stack().families() {
            let program = if family == Family::V4 { "iptables-save" } else { "ip6tables-save" };
            let rules = bed.cluster.machine(node).run(program)?;
            ensure!(rules.contains("FLANNEL-") == there, "it has\n{rules}");
        }
        Ok(())
    })
    .map_err(|failure| with_logs(bed, failure))
}

/// Netd goes for good, and what flannel uses of what netd had stays.
fn uninstall(bed: &Bed) -> Outcome {
    let steps = readme::commands("**Uninstall**")?;
    let (_, delete, rest) = readme::apart(steps, "kubectl -n netd delete daemonset netd")?;
    let (jobs, _, _) = readme::apart(rest, "kubectl delete --ignore-not-found -f manifests/netd.yml")?;
    let commands = format!("{delete}{jobs}kubectl delete --ignore-not-found -k manifests/overlays/from-flannel");
    bed.cluster.server.shell(&commands).map_err(|failure| with_logs(bed, failure))?;
    for machine in &bed.cluster.machines {
        let tables = machine.run("nft list tables")?;
        ensure!(!tables.contains("inet netd"), "{} has the tables\n{tables}", machine.name());
    }
    Ok(())
}

/// The pods of both plugins have one subnet of each family on each node.
fn same_bridge(pods: &[RealPod]) -> Outcome {
    for name in NODES {
        let own = pods.iter().filter(|pod| pod.name().ends_with(name));
        let subnets: Vec<Vec<String>> =
            own.map(|pod| pod.addresses().iter().map(|(_, address)| range(*address)).collect()).collect();
        let first = subnets.first().context("the node has a pod")?;
        ensure!(subnets.iter().all(|subnets| subnets == first), "pods on {name} are in {subnets:?}");
    }
    Ok(())
}
