//! What can happen to etcd while netd lives: it ends, it cannot be reached, it forgets, it is compacted.

use libtest_mimic::Trial;
use netd_tests::etcd::{Door, Etcd};
use netd_tests::suite::test;
use netd_tests::{Load, Outcome, ensure, eventually, health, repair, seconds, sleep};

use crate::bed::{Bed, ENDPOINT, foreign, key_of, routed, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("what changed during a cut is known after it, though it was compacted", compacted),
        test("etcd that is not there at the start is waited for", late),
        test("etcd is restarted: the data path stays, and changes arrive again", restarted),
        test("etcd loses its data: the network stays, and every node comes back", wiped),
        test("a lease that is revoked and a key that is deleted come back", revoked),
        test("a command without etcd ends with a reason", command),
    ]
}

fn compacted() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    let daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    routed(bed.node("n1"), "10.244.200.0/24", true)?;
    bed.fabric.segments[0].ip("link set etcd down")?;
    bed.put("subnets/10.244.201.0-24", &foreign(201))?;
    bed.ctl(&["del", "/coreos.com/network/subnets/10.244.200.0-24"])?;
    let last = bed.ctl(&["put", "/elsewhere", "x", "--write-out=json"])?;
    let revision =
        last.split("\"revision\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap_or_default();
    bed.ctl(&["compact", revision])?;
    daemon.await_log("etcd cannot be followed", seconds(60))?;
    routed(bed.node("n1"), "10.244.200.0/24", true)?;
    bed.fabric.segments[0].ip("link set etcd up")?;
    routed(bed.node("n1"), "10.244.201.0/24", true)?;
    routed(bed.node("n1"), "10.244.200.0/24", false)?;
    bed.put("subnets/10.244.202.0-24", &foreign(202))?;
    routed(bed.node("n1"), "10.244.202.0/24", true)
}

/// Cut off for longer than any wait of netd but that for its next full comparison. Pods talk all the time, and what etcd has in
/// the end is what counts.
pub(crate) fn minutes() -> Outcome {
    let (cluster, etcd) = Bed::with(&vxlan())?.start()?;
    let machine = cluster.node("etcd");
    let put = |n: u8| etcd.put(machine, &format!("subnets/10.244.{n}.0-24"), &foreign(n));
    put(200)?;
    routed(cluster.node("n1"), "10.244.200.0/24", true)?;
    let own = key_of(&etcd, machine, 11)?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "c")?];
    cluster.settle(&pods[0], &pods[1])?;
    cluster.settle(&pods[1], &pods[0])?;
    let load = Load::between(&[&pods[0], &pods[1]])?;
    cluster.fabric.segments[0].ip("link set etcd down")?;
    put(201)?;
    etcd.ctl(machine, &["del", "/coreos.com/network/subnets/10.244.200.0-24"])?;
    sleep(seconds(130));
    routed(cluster.node("n1"), "10.244.200.0/24", true)?;
    cluster.fabric.segments[0].ip("link set etcd up")?;
    let with_logs = |failure| cluster.with_logs(failure);
    routed(cluster.node("n1"), "10.244.201.0/24", true).map_err(with_logs)?;
    routed(cluster.node("n1"), "10.244.200.0/24", false).map_err(with_logs)?;
    let now = key_of(&etcd, machine, 11)?;
    ensure!(now == own, "the node's own key was {own:?} and is {now:?}");
    let log = cluster.daemon("n1").log();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    ensure!(warned.len() <= 2, "it was logged more than once:\n{}", warned.join("\n"));
    load.unharmed().map_err(with_logs)
}

/// It accepts and answers nothing for more than a minute, while n1 has something to write. Meanwhile entries of n1 are removed, pods talk,
/// and in the end the lease is as it was.
pub(crate) fn hangs() -> Outcome {
    let (cluster, etcd) = Bed::with(&vxlan())?.start()?;
    let machine = cluster.node("etcd");
    etcd.put(machine, "subnets/10.244.200.0-24", &foreign(200))?;
    routed(cluster.node("n1"), "10.244.200.0/24", true)?;
    let own = key_of(&etcd, machine, 11)?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "c")?];
    cluster.settle(&pods[0], &pods[1])?;
    cluster.settle(&pods[1], &pods[0])?;
    let load = Load::between(&[&pods[0], &pods[1]])?;
    let (node, daemon) = (cluster.node("n1"), cluster.daemon("n1"));
    let removed = |length| repair::again_and_again(node, daemon, "10.244.200.0/24", length);
    let before = removed(seconds(10))?;
    // n1 reads that its key has another content when etcd answers no more.
    daemon.stand_still()?;
    let altered = own.1.replace("\"Receives\":[", "\"Receives\":[{\"Type\":\"host-gw\"},");
    ensure!(altered != own.1, "the key says {}", own.1);
    etcd.ctl(machine, &["put", "--ignore-lease", &format!("/coreos.com/network/subnets/{}", own.0), &altered])?;
    etcd.put(machine, "subnets/10.244.201.0-24", &foreign(201))?;
    routed(cluster.node("n2"), "10.244.201.0/24", true)?;
    etcd.stand_still()?;
    daemon.go_on()?;
    let meanwhile = removed(seconds(70))?;
    daemon.await_log("this node's lease cannot be published for its peers", seconds(1))?;
    etcd.go_on()?;
    let with_logs = |failure| cluster.with_logs(failure);
    eventually(seconds(60), "the key is as it was", || {
        let now = key_of(&etcd, machine, 11)?;
        ensure!(now == own, "it is {now:?}, and was {own:?}");
        Ok(())
    })
    .map_err(with_logs)?;
    let after = removed(seconds(10))?;
    println!(
        "removed entries were back within {before:?}, while etcd hung within {meanwhile:?}, then within {after:?}"
    );
    load.unharmed().map_err(with_logs)
}

fn late() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    let Bed { fabric, etcd } = bed;
    etcd.kill()?;
    // The first of the endpoints never is there.
    let endpoints = ENDPOINT.replace("http:", "http://192.168.1.14:4001,http:");
    let daemon = fabric.node("n1").launch_netd(&[&endpoints, health::FLAG])?;
    daemon.await_log("waiting: ", seconds(20))?;
    health::await_waiting(fabric.node("n1"), "etcd")?;
    let etcd = Etcd::start(fabric.node("etcd"), fabric.disk(), Door::Open)?;
    daemon.await_ready()?;
    routed(fabric.node("n1"), "10.244.200.0/24", true)?;
    daemon.terminate()?;
    etcd.put(fabric.node("etcd"), "config", "{")?;
    let daemon = fabric.node("n1").launch_netd(&[ENDPOINT, health::FLAG])?;
    health::await_waiting(fabric.node("n1"), "correct the network configuration")?;
    etcd.put(fabric.node("etcd"), "config", &vxlan().to_string())?;
    daemon.await_ready()
}

fn restarted() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    let daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    routed(bed.node("n1"), "10.244.200.0/24", true)?;
    let before = key_of(&bed.etcd, bed.machine(), 11)?;
    let Bed { fabric, etcd } = bed;
    etcd.kill()?;
    daemon.await_log("etcd cannot be followed", seconds(30))?;
    routed(fabric.node("n1"), "10.244.200.0/24", true)?;
    let etcd = Etcd::start(fabric.node("etcd"), fabric.disk(), Door::Open)?;
    daemon.await_log("can be followed again", seconds(30))?;
    etcd.put(fabric.node("etcd"), "subnets/10.244.201.0-24", &foreign(201))?;
    routed(fabric.node("n1"), "10.244.201.0/24", true)?;
    let after = key_of(&etcd, fabric.node("etcd"), 11)?;
    ensure!(after == before, "the key was {before:?} and is {after:?}");
    Ok(())
}

fn wiped() -> Outcome {
    let (cluster, etcd) = Bed::with(&vxlan())?.start()?;
    let machine = cluster.node("etcd");
    let (key, _, _) = key_of(&etcd, machine, 12)?;
    let range = key.replace('-', "/");
    routed(cluster.node("n1"), &range, true)?;
    etcd.wipe()?;
    let etcd = Etcd::start(machine, cluster.fabric.disk(), Door::Open)?;
    cluster.daemon("n1").await_log("has no network configuration", seconds(30))?;
    routed(cluster.node("n1"), &range, true)?;
    etcd.put(machine, "config", &vxlan().to_string())?;
    for n in [11, 12, 13] {
        eventually(seconds(30), "the node's key is there again", || key_of(&etcd, machine, n))
            .map_err(|failure| cluster.with_logs(failure))?;
    }
    let (now, _, lease) = key_of(&etcd, machine, 12)?;
    ensure!(now == key && lease != 0, "n2 had {key} and has {now}, lease {lease:x}");
    routed(cluster.node("n1"), &range, true)
}

fn revoked() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let _daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    let (key, _, lease) = key_of(&bed.etcd, bed.machine(), 11)?;
    bed.ctl(&["lease", "revoke", &format!("{lease:x}")])?;
    let again = eventually(seconds(20), "the key is there again", || key_of(&bed.etcd, bed.machine(), 11))?;
    ensure!(again.0 == key && again.2 != 0 && again.2 != lease, "it was {key}, and is {again:?}");
    bed.ctl(&["del", &format!("/coreos.com/network/subnets/{key}")])?;
    let third = eventually(seconds(20), "the key is there again", || key_of(&bed.etcd, bed.machine(), 11))?;
    ensure!(third.0 == key && third.2 == again.2, "the lease is not the one that lives: {third:?}");
    Ok(())
}

fn command() -> Outcome {
    let bed = Bed::empty()?;
    let output = bed.node("n1").run_netd("plan", &["--etcd-endpoints=http://192.168.1.14:9"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "it ended with {}: {said}", output.status);
    ensure!(said.contains("--etcd-endpoints") && said.contains("192.168.1.14:9"), "it said {said}");
    Ok(())
}
