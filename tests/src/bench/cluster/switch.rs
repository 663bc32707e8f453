//! The backend in the configuration changes: from the edit to the last route on the last of three nodes.

use std::time::Instant;

use serde_json::json;

use super::{Bed, contender, net_conf};
use crate::bench::bed::Backend;
use crate::bench::figures::{Times, head};
use crate::bench::kernel_events::{KernelEvent, KernelEvents};
use crate::failure::{Context, Outcome};
use dataplane::types::{Family, Prefix};

const SWITCHES: usize = 10;
const MAP: &str = "/api/v1/namespaces/netd/configmaps";

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let bed = Bed::new()?;
    let data = |backend| json!({ "net-conf.json": net_conf(backend).to_string() });
    bed.server.create(MAP, &json!({ "metadata": { "name": "netd-cfg" }, "data": data(Backend::Vxlan) }))?;
    let kubeconfig = format!("--kubeconfig-file={}", bed.kubeconfig.display());
    let mut daemons = Vec::new();
    for name in NAMES {
        let state = format!("--state-dir={}", bed.fabric.disk().join(name).display());
        let flags = ["--kube-subnet-mgr", &kubeconfig, "--net-conf-configmap=netd/netd-cfg", "--ip-masq", &state];
        let daemon = bed.node(name).launch_netd_by(&flags, contender::as_shipped)?;
        daemon.await_ready()?;
        daemons.push(daemon);
    }
    let mut ears =
        NAMES.iter().map(|name| KernelEvents::open(bed.node(name).namespace())).collect::<Outcome<Vec<_>>>()?;
    let mut times = [Times::default(), Times::default()];
    for number in 0..SWITCHES {
        let backend = if number % 2 == 0 { Backend::HostGw } else { Backend::Vxlan };
        for notifications in &mut ears {
            notifications.drain()?;
        }
        let at = Instant::now();
        bed.server.patch(&format!("{MAP}/netd-cfg"), &json!({ "data": data(backend) }))?;
        let mut last = at;
        for (name, notifications) in NAMES.iter().zip(&mut ears) {
            let wanted = NAMES.iter().filter(|other| *other != name).map(|other| route(&bed, other, backend));
            let wanted = wanted.collect::<Outcome<Vec<_>>>()?;
            last = last.max(notifications.await_all("the routes by the other backend", &wanted)?);
        }
        times[number % 2].push(last - at);
        for daemon in &daemons {
            crate::bench::process::Process(daemon.process()).rest()?;
        }
    }
    head("the ConfigMap edited, to the last route on the last of 3 nodes");
    for (label, times) in ["vxlan to host-gw", "host-gw to vxlan"].iter().zip(&times) {
        times.row(label);
    }
    Ok(())
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// The route to a node's pods.
fn route(bed: &Bed, name: &str, backend: Backend) -> Outcome<KernelEvent> {
    let range = format!("10.99.{}.0/24", name.trim_start_matches('n'));
    let range: Prefix = range.parse().context("a range")?;
    let gateway = if backend == Backend::HostGw { bed.node(name).address(Family::V4) } else { range.address() };
    Ok(KernelEvent::Route(range, Some(gateway)))
}
