//! What somebody else does to the tables, and what netd-proxy leaves behind.

use std::process::Command;

use netd_tests::{Context, Outcome, binaries, ensure, eventually, seconds};

use super::ask::{self, Answer, Protocol};
use super::scene::{self, CLIENT, CLUSTER, NODE_PORT, POD, Scene};

/// What was done to the table by which commands of `nft`, without the word.
pub(crate) const INJURIES: [(&str, &str); 6] = [
    ("the table is deleted", "delete table ip netd-proxy"),
    ("a chain is flushed", "flush chain ip netd-proxy destinations"),
    ("an element is deleted", "delete element ip netd-proxy services-3 { 172.30.0.10 . tcp . 80 }"),
    ("a set is flushed", "flush set ip netd-proxy node-ports-3"),
    ("an element is added", "add element ip netd-proxy masquerade-services { 172.30.0.10 . tcp . 80 }"),
    (
        "an element is added that takes the Service",
        "add element ip netd-proxy reject-services { 172.30.0.10 . tcp . 80 }",
    ),
];

/// The table is as before, and connections go where they went.
pub(crate) fn heals(injury: &str) -> Outcome {
    let scene = Scene::start(3, None)?;
    scene.reaches(POD, CLUSTER, 1..=3)?;
    let before = scene.words()?;
    scene.bed.node.run(&format!("nft {injury}"))?;
    eventually(seconds(60), "the table is whole", || {
        let now = scene.words()?;
        let differing = |one: &[String], other: &[String]| {
            let missing = one.iter().filter(|word| !other.contains(word)).take(5);
            missing.cloned().collect::<Vec<_>>()
        };
        ensure!(now == before, "missing {:?}, too much {:?}", differing(&before, &now), differing(&now, &before));
        Ok(())
    })
    .map_err(|failure| failure.with("its log", &scene.log()))?;
    scene.reaches(POD, CLUSTER, 1..=3)?;
    scene.reaches(CLIENT, NODE_PORT, 1..=3)?;
    let answer = scene.bed.pod.within(|| ask::ask(POD, CLUSTER.into(), Protocol::Tcp, ask::PATIENT))??;
    let (_, _, client) = ask::answered(answer)?;
    ensure!(client == POD, "the endpoint saw {client}");
    Ok(())
}

/// `--cleanup` takes the tables away, and nothing else.
pub(crate) fn cleans_up() -> Outcome {
    let mut scene = Scene::start(2, None)?;
    scene.bed.node.run("nft add table ip other")?;
    scene.take_proxy()?.terminate()?;
    scene.reaches(POD, CLUSTER, 1..=2)?;
    for _ in 0..2 {
        let output = scene.bed.node.output(Command::new(binaries::proxy()?).arg("--cleanup"))?;
        ensure!(output.status.success(), "--cleanup: {}", String::from_utf8_lossy(&output.stderr));
        let tables = scene.bed.node.run("nft list tables")?;
        ensure!(tables.trim() == "table ip other", "left are: {tables}");
    }
    let answer = scene.bed.pod.within(|| ask::ask(POD, CLUSTER.into(), Protocol::Tcp, ask::BRIEF))??;
    // The world has the cluster IP and no server there.
    ensure!(answer == Answer::Refused, "{answer:?}");
    Ok(())
}

/// A file that cannot be read is named, and what it said before is kept.
pub(crate) fn keeps_the_last_good_file() -> Outcome {
    let scene = Scene::start(3, None)?;
    let cluster = |n| (std::net::Ipv4Addr::new(172, 30, 0, n), 80);
    let file = scene.bed.objects.folder().join("more.yaml");
    let write = |text: &str| std::fs::write(&file, text).context("write a file");
    let more = |n| format!("{}---\n{}", scene::service("more", cluster(n), None), scene::slice("more", 1..=3));
    let reaches = |n| eventually(seconds(20), "the file is programmed", || scene.reaches(POD, cluster(n), 1..=3));
    write(&more(20))?;
    reaches(20)?;
    write(&format!("{}\n  - ]", more(21)))?;
    let proxy = scene.proxy.as_ref().context("netd-proxy does not run")?;
    proxy.await_log("more.yaml", seconds(20))?;
    scene.reaches(POD, cluster(20), 1..=3)?;
    scene.reaches(POD, CLUSTER, 1..=3)?;
    write(&more(22))?;
    reaches(22)?;
    proxy.await_log("over:", seconds(20))
}
