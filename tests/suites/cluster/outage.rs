//! What a cluster lives through: the API server away, etcd's crash, a node's reboot, a node's end.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::kubernetes::{Machine, client, serves};
use netd_tests::suite::{from_the_start, test};
use netd_tests::{Context, Namespace, Outcome, Stack, Topology, ensure, eventually, flow, kernel, seconds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::Bed;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a node comes back from a reboot, and one that is removed is forgotten", reboot),
        from_the_start(
            "while the API server is away for five minutes pods start, stop and talk, and netd starts anew; so after etcd's crash",
            away,
        ),
    ]
}

/// For how long the API server is away: longer than any wait of kubelets, controllers and netd.
const AWAY: Duration = Duration::from_mins(5);

fn away() -> Outcome {
    let mut bed = Bed::start(&Topology::two_segments(Stack::V4), Stack::V4)?;
    bed.under_load(|bed| {
        bed.cluster.server.stop()?;
        let back = Instant::now() + AWAY;
        come_and_go(bed, "early")?;
        restarted(bed, "n1")?;
        for number in 0.. {
            come_and_go(bed, &format!("late-{number}"))?;
            if Instant::now() > back {
                break;
            }
        }
        bed.cluster.server.resume()?;
        bed.cluster.server.kill_etcd()?;
        bed.cluster.server.resume_etcd(&bed.cluster.fabric, netd_tests::kubernetes::CONTROL)?;
        bed.await_rollout()
    })?;
    bed.pods.push(bed.cluster.pod("n2", "afterwards").map_err(|failure| bed.with_logs(failure))?);
    bed.talk()
}

/// A pod starts on one node, is reached from another, and stops, without an API server: the kubelet starts what is in this folder without
/// asking anybody.
fn come_and_go(bed: &Bed, name: &str) -> Outcome {
    let n3 = bed.cluster.machine("n3");
    let before: Vec<IpAddr> = n3.pods()?.into_iter().map(|(address, _)| address).collect();
    let file = format!("etc/kubernetes/manifests/{name}.json");
    n3.write(&file, &client(name, "n3").to_string())?;
    let (address, namespace) = eventually(seconds(90), "a pod starts", || {
        let fresh = n3.pods()?.into_iter().find(|(address, _)| !before.contains(address));
        let (address, namespace) = fresh.context("there is no other pod than before")?;
        serves(&namespace)?;
        Ok((address, namespace))
    })
    .map_err(|failure| bed.with_logs(failure))?;
    let pod = &bed.pods[0];
    flow::all(pod.namespace(), pod.address(Family::V4)?, &namespace, address)
        .map_err(|failure| bed.with_logs(failure))?;
    std::fs::remove_file(n3.root().join(file)).context("remove a static pod")?;
    eventually(seconds(90), "the pod stops", || gone(n3, address))
}

fn gone(machine: &Machine, address: IpAddr) -> Outcome {
    let there: Vec<(IpAddr, Namespace)> = machine.pods()?;
    ensure!(there.iter().all(|(other, _)| *other != address), "it has {address} still");
    Ok(())
}

/// netd is killed, and the kubelet starts it again: it is ready with what it had on disk.
fn restarted(bed: &Bed, node: &str) -> Outcome {
    let machine = bed.cluster.machine(node);
    let process = machine.process("netd")?;
    kill(Pid::from_raw(process), Signal::SIGKILL).context("kill netd")?;
    eventually(seconds(90), "netd is started again", || {
        let now = machine.process("netd")?;
        ensure!(now != process, "it is the one from before");
        Ok(())
    })?;
    bed.await_netd(node)
}

fn reboot() -> Outcome {
    let mut bed = Bed::start(&Topology::two_segments(Stack::V4), Stack::V4)?;
    bed.talk()?;
    bed.pods.remove(1);
    bed.cluster.reboot("n2")?;
    let pod = eventually(seconds(180), "the node's pod is back", || bed.cluster.await_pod("n2", "pod-n2"))
        .map_err(|failure| bed.with_logs(failure))?;
    bed.pods.push(pod);
    bed.talk()?;

    let node = bed.cluster.server.get("/api/v1/nodes/n3")?;
    let range = node["spec"]["podCIDR"].as_str().context("the node has no podCIDR")?;
    bed.pods.retain(|pod| pod.name() != "pod-n3");
    bed.cluster.take("n3")?;
    bed.cluster.server.delete("/api/v1/nodes/n3")?;
    for name in ["n1", "n2"] {
        eventually(seconds(60), &format!("{name} forgets n3"), || {
            let route = kernel::route(bed.cluster.machine(name).namespace(), Family::V4, range)?;
            ensure!(route.is_none(), "it has {route:?}");
            Ok(())
        })
        .map_err(|failure| bed.with_logs(failure))?;
    }
    bed.talk()
}
