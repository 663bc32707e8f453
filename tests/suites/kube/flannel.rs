//! Real flanneld with `--kube-subnet-mgr` beside netd, netd in its place, and flanneld back.

use libtest_mimic::Trial;
use netd_tests::flanneld::Flanneld;
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Told, Topology, ensure, flow, kernel, net_conf};
use serde_json::json;

use crate::bed::Bed;

pub(crate) fn trials() -> Vec<Trial> {
    let cases = [("vxlan", Stack::V4), ("vxlan", Stack::Dual), ("host-gw", Stack::V4), ("host-gw", Stack::Dual)];
    let trial = |(backend, stack)| {
        let name = format!("flanneld beside netd, replaced by netd, and back/{backend} {stack:?}");
        test(name, move || both(backend, stack))
    };
    cases.into_iter().map(trial).collect()
}

const WRITTEN: [&str; 6] =
    ["kube-subnet-manager", "backend-type", "backend-data", "backend-v6-data", "public-ip", "public-ipv6"];

fn both(backend: &str, stack: Stack) -> Outcome {
    let conf = net_conf(stack, &json!({ "Type": backend }));
    let bed = Bed::bare(&Topology::one_segment(stack).with("api", 1), &conf)?;
    bed.add_nodes(stack)?;
    // flanneld breaks on a Node without any annotation.
    bed.annotate("n2", &json!({ "of-nobody": "" }))?;
    let file = bed.fabric.disk().join("net-conf.json");
    std::fs::write(&file, conf.to_string()).told("write a configuration")?;
    let flags = bed.flags("n2");
    let kubeconfig = flags[1].as_str();
    let path = format!("--net-config-path={}", file.display());
    let flanneld = || Flanneld::start_by(bed.node("n2"), &["--kube-subnet-mgr", kubeconfig, &path]);
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
    let pods = [bed.node("n1").add_pod("a")?, bed.node("n3").add_pod("c")?];
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
    talk().map_err(|failure| first.told(failure.with("n1", &n1.log())))?;
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
    talk().map_err(|failure| again.told(failure.with("n1", &n1.log()).with("n3", &n3.log())))
}
