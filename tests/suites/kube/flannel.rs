//! Real flanneld with `--kube-subnet-mgr` beside netd, netd in its place, and flanneld back.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use netd_tests::apiserver::{ApiServer, node_object};
use netd_tests::flanneld::Flanneld;
use netd_tests::mixed::{Store, every_order, topology};
use netd_tests::suite::test;
use netd_tests::{Context, Fabric, Node, Outcome, Pod, Stack, Topology, ensure, flow, kernel, net_conf};
use serde_json::{Value, json};

use crate::bed::{self, Bed};

pub(crate) fn trials() -> Vec<Trial> {
    let cases = [("vxlan", Stack::V4), ("vxlan", Stack::Dual), ("host-gw", Stack::V4), ("host-gw", Stack::Dual)];
    let trials = |(backend, stack)| {
        let of = |what: &str| format!("{what}/{backend} {stack:?}");
        [
            test(of("flanneld beside netd, replaced by netd, and back"), move || both(backend, stack)),
            test(of("flanneld and netd join, restart and leave in every order"), move || mixed(backend, stack)),
        ]
    };
    cases.into_iter().flat_map(trials).collect()
}

/// Node objects, which a kubelet makes and takes away.
struct Nodes {
    server: ApiServer,
    kubeconfig: PathBuf,
    /// flanneld reads its configuration from a file alone.
    file: PathBuf,
    disk: PathBuf,
    stack: Stack,
}

impl Store for Nodes {
    fn of_netd(&self, node: &Node) -> Vec<String> {
        let disk = self.disk.join(node.name());
        bed::flags(&self.kubeconfig.display().to_string(), &disk.display().to_string())
    }

    fn of_flanneld(&self) -> Vec<String> {
        flannels_flags(&self.kubeconfig, &self.file)
    }

    fn admit(&self, node: &Node) -> Outcome {
        let ranges = bed::ranges(node.name(), self.stack);
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        // flanneld breaks on a Node without any annotation.
        let object = node_object(node.name(), &ranges, &json!({ "of-nobody": "" }), 2);
        self.server.create("/api/v1/nodes", &object).map(drop)
    }

    fn expel(&self, _: &Fabric, node: &Node) -> Outcome {
        self.server.delete(&bed::path(node.name()))
    }
}

fn mixed(backend: &str, stack: Stack) -> Outcome {
    let conf = net_conf(stack, &json!({ "Type": backend }));
    let Bed { mut fabric, server, kubeconfig } = Bed::bare(&topology(backend, stack).with("api", 1), &conf)?;
    let (disk, file) = (fabric.disk().to_owned(), written(&fabric, &conf)?);
    every_order(&mut fabric, &Nodes { server, kubeconfig, file, disk, stack })
}

/// The configuration as flanneld gets it.
fn written(fabric: &Fabric, conf: &Value) -> Outcome<PathBuf> {
    let file = fabric.disk().join("net-conf.json");
    std::fs::write(&file, conf.to_string()).context("write a configuration")?;
    Ok(file)
}

fn flannels_flags(kubeconfig: &Path, file: &Path) -> Vec<String> {
    vec![
        "--kube-subnet-mgr".to_owned(),
        format!("--kubeconfig-file={}", kubeconfig.display()),
        format!("--net-config-path={}", file.display()),
    ]
}

const WRITTEN: [&str; 6] =
    ["kube-subnet-manager", "backend-type", "backend-data", "backend-v6-data", "public-ip", "public-ipv6"];

fn both(backend: &str, stack: Stack) -> Outcome {
    let conf = net_conf(stack, &json!({ "Type": backend }));
    let bed = Bed::bare(&Topology::one_segment(stack).with("api", 1), &conf)?;
    bed.add_nodes(stack)?;
    // flanneld breaks on a Node without any annotation.
    bed.annotate("n2", &json!({ "of-nobody": "" }))?;
    let flags = flannels_flags(&bed.kubeconfig, &written(&bed.fabric, &conf)?);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let flanneld = || Flanneld::start_by(bed.node("n2"), &flags);
    let first = flanneld()?;
    let n1 = bed.start("n1", &[])?;
    let n3 = bed.start("n3", &[])?;
    let n2 = bed.node("n2").namespace();
    // Pods of n2's, without their interfaces.
    let there: Vec<std::net::IpAddr> = ["10.244.2.5", "fd00:10:244:2::5"]
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|address: &std::net::IpAddr| address.is_ipv4() || stack != Stack::V4)
        .collect();
    for address in &there {
        n2.ip(&format!("addr add {address} dev lo"))?;
    }
    let pods = [Pod::add(bed.node("n1"), "a")?, Pod::add(bed.node("n3"), "c")?];
    let talk = || -> Outcome {
        for pod in &pods {
            for address in &there {
                netd_tests::eventually(netd_tests::seconds(30), &format!("{} reaches {address}", pod.name()), || {
                    flow::ping(pod.namespace(), *address)
                })?;
            }
        }
        Ok(())
    };
    talk().map_err(|failure| first.with_logs(failure.with("n1", &n1.log())))?;
    let said = || WRITTEN.iter().map(|name| bed.annotation("n2", name)).collect::<Outcome<Vec<_>>>();
    let (wrote, device) = (said()?, kernel::link(n2, "flannel.1")?.map(|link| link["ifindex"].clone()));
    drop(first);

    let daemon = bed.start("n2", &[])?;
    talk().map_err(|failure| failure.with("n1", &n1.log()).with("n2", &daemon.log()))?;
    let writes = said()?;
    ensure!(writes == wrote, "flannel wrote {wrote:?}, and netd {writes:?}");
    let same = kernel::link(n2, "flannel.1")?.map(|link| link["ifindex"].clone());
    ensure!(same == device, "the device was {device:?}, and is {same:?}");
    daemon.terminate()?;

    let again = flanneld()?;
    let writes = said()?;
    ensure!(writes == wrote, "flannel wrote {wrote:?}, and after netd {writes:?}");
    talk().map_err(|failure| again.with_logs(failure.with("n1", &n1.log()).with("n3", &n3.log())))
}
