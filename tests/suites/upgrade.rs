//! Every node gets another build of netd, one after the other or all at once, and then the first one back: pods notice nothing, and
//! the kernel stays as it is.

use std::path::Path;
use std::process::{Command, ExitCode};

use netd_tests::suite::test;
use netd_tests::{Cluster, Load, Outcome, Snapshot, Stack, Topology, binaries, ensure, net_conf};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run_with(binaries::prepare_other_netd, || {
        let backends = [("vxlan", json!({ "Type": "vxlan" })), ("host-gw", json!({ "Type": "host-gw" }))];
        let each = [(End::Asked, Order::Rolling), (End::Killed, Order::Rolling), (End::Killed, Order::AtOnce)];
        let all = backends.iter().flat_map(|(name, backend)| each.map(|how| (*name, backend.clone(), how)));
        all.map(|(name, backend, (end, order))| {
            test(
                format!("every node gets another build and the first one back/{name}, {end:?}, {order:?}"),
                move || upgrade(&backend, end, order),
            )
        })
        .collect()
    })
}

#[derive(Debug, Clone, Copy)]
enum End {
    Asked,
    Killed,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Rolling,
    AtOnce,
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn upgrade(backend: &Value, end: End, order: Order) -> Outcome {
    let conf = net_conf(Stack::Dual, backend);
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::Dual), &conf, &["--ip-masq"])?;
    let pods = NODES.map(|node| cluster.pod(node, &format!("p-{node}")));
    let pods = pods.into_iter().collect::<Outcome<Vec<_>>>()?;
    for from in &pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            cluster.settle(from, to)?;
        }
    }
    let builds = [binaries::other_netd()?, binaries::netd()?];
    let before = snapshots(&cluster)?;
    let load = Load::between(&pods.iter().collect::<Vec<_>>())?;
    for build in &builds {
        match order {
            Order::Rolling => {
                for node in NODES {
                    stop(&mut cluster, node, end)?;
                    start(&mut cluster, node, build)?;
                }
            }
            Order::AtOnce => {
                NODES.iter().try_for_each(|node| stop(&mut cluster, node, end))?;
                NODES.iter().try_for_each(|node| start(&mut cluster, node, build))?;
            }
        }
        for (before, after) in before.iter().zip(snapshots(&cluster)?) {
            before.same_as(&after).map_err(|failure| cluster.with_logs(failure))?;
        }
    }
    load.unharmed().map_err(|failure| cluster.with_logs(failure))
}

fn snapshots(cluster: &Cluster) -> Outcome<Vec<Snapshot>> {
    let of = |name: &str| Snapshot::take(cluster.node(name).namespace(), &[cluster.node(name).cni_conf_dir()]);
    NODES.into_iter().map(of).collect()
}

fn stop(cluster: &mut Cluster, node: &str, end: End) -> Outcome {
    let daemon = cluster.take(node);
    match end {
        End::Asked => {
            let status = daemon.terminate()?;
            ensure!(status.success(), "netd on {node} ended with {status} on SIGTERM");
        }
        End::Killed => drop(daemon.crash()?),
    }
    Ok(())
}

fn start(cluster: &mut Cluster, node: &str, build: &Path) -> Outcome {
    cluster.resume_by(node, |usual| {
        let mut command = Command::new(build);
        command.args(usual.get_args());
        command
    })
}
