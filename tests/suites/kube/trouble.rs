//! What can happen to an API server: it is away, refuses, talks nonsense, forgets who netd is. Packets flow through all of it.

use std::process::Command;

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Failure, Load, Outcome, ensure, eventually, flow, health, kernel, repair, seconds};
use serde_json::{Value, json};

use crate::bed::{Bed, NODES, PREFIX, add_peer, path, routed, topology, vxlan};
use crate::proxy::{Proxy, URL};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("the API server goes away and comes back", away),
        test("a node starts while the API server is away, from its cache file", remembered),
        test("a netd that needs its Node's name from the API server says that it waits for that", nameless),
        test("writes that are refused for a moment are tried again", refused_once),
        test("an API server with too much to do, a broken one, and nonsense, each said once", nonsense),
        test("rights that are missing are named, and waited for", rights),
        test("a token that is not valid is named, and a new one taken", token),
        test("a certificate that is not accepted is named", certificate),
        test("a Node that comes again with another podCIDR", moved),
        test("an etcd that is put back to a backup", put_back),
        test("Events that cannot be sent hurt nobody", no_events),
    ]
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// It accepts and answers nothing for more than a minute, while n1 has something to write. Meanwhile entries of n1 are removed, pods talk,
/// and in the end the Node is as it was.
pub(crate) fn hangs() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.add_peer("ghost", 200)?;
    let (cluster, server) = bed.cluster()?;
    routed(cluster.node("n1"), "10.244.200.0/24", true)?;
    let annotations = || Ok(server.get(&path("n1"))?["metadata"]["annotations"].clone());
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?];
    cluster.settle(&pods[0], &pods[1])?;
    cluster.settle(&pods[1], &pods[0])?;
    let own: Value = annotations()?;
    let load = Load::between(&[&pods[0], &pods[1]])?;
    let (node, daemon) = (cluster.node("n1"), cluster.daemon("n1"));
    let removed = |length| repair::again_and_again(node, daemon, "10.244.200.0/24", length);
    let before = removed(seconds(10))?;
    // n1 reads that its Node has another annotation when the API server answers no more.
    daemon.stand_still()?;
    let name = format!("{PREFIX}netd-receives");
    let receives = own[&name].as_str().context(format!("the annotations are {own}"))?;
    let altered = receives.replacen('[', r#"[{"Type":"host-gw"},"#, 1);
    server.patch(&path("n1"), &json!({ "metadata": { "annotations": { &name: altered } } }))?;
    add_peer(&server, "witness", 201)?;
    routed(cluster.node("n2"), "10.244.201.0/24", true)?;
    server.stand_still()?;
    daemon.go_on()?;
    let meanwhile = removed(seconds(70))?;
    daemon.await_log("this node's lease cannot be published for its peers", seconds(1))?;
    server.go_on()?;
    let with_logs = |failure| cluster.with_logs(failure);
    eventually(seconds(90), "the Node is as it was", || {
        let now = annotations()?;
        ensure!(now == own, "its annotations are {now}, and were {own}");
        Ok(())
    })
    .map_err(with_logs)?;
    let after = removed(seconds(10))?;
    println!(
        "removed entries were back within {before:?}, while the API server hung within {meanwhile:?}, then within {after:?}"
    );
    load.unharmed().map_err(with_logs)
}

fn away() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let (mut cluster, mut server) = bed.cluster()?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?];
    cluster.settle(&pods[0], &pods[1])?;
    let address = *pods[1].addresses().iter().next().context("an address")?.1;
    let ping = flow::Stream::start(pods[0].namespace(), address)?;
    server.stop()?;
    // One that asks late, and only the API server that is there again, would notice nothing.
    for name in NODES {
        cluster.daemon(name).await_log("cannot be followed", seconds(60))?;
    }
    // A pod starts meanwhile, and netd is asked how it is.
    let third = cluster.pod("n1", "c")?;
    cluster.settle(&third, &pods[1])?;
    let status = netd_tests::eventually(seconds(20), "netd status shows it", || {
        let output = cluster.node("n1").run_netd("status", &[])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains("the API server cannot be reached"), "it says {text}");
        Ok(text)
    })?;
    server.resume()?;
    for name in NODES {
        cluster.daemon(name).await_log("the store can be followed again", seconds(60))?;
        let log = cluster.daemon(name).log();
        let (said, over) = (count(&log, "the network stays as it was"), count(&log, "can be followed again"));
        // Of the Nodes or of the configuration, where the one comes back before the other; and again where the reason is another
        // one: an API server that has just started does not know its own rules yet.
        ensure!(
            said <= 4 && over == 1,
            "{name} said it {said} times, and {over} times that it is over: {status}\n{log}"
        );
    }
    ping.nothing_lost().map_err(|failure| cluster.with_logs(failure))?;
    cluster.take("n1").terminate()?;
    cluster.resume("n1")?;
    cluster.settle(&pods[0], &pods[1])
}

fn remembered() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    bed.add_peer("old", 77)?;
    let daemon = bed.start("n1", &[])?;
    routed(bed.node("n1"), "10.244.77.0/24", true)?;
    let memory = bed.fabric.disk().join("n1/state/netd-");
    let folder = memory.parent().context("a folder")?.to_owned();
    let is_on_disk = |range: &str| {
        eventually(seconds(30), "what is known is on disk", || {
            let files = std::fs::read_dir(&folder).context("read the state's folder")?.flatten();
            let texts: Vec<String> = files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
            ensure!(texts.iter().any(|text| text.contains(range) && text.contains("\"n1\"")), "{texts:?}");
            Ok(())
        })
        .map_err(|failure| failure.with("netd", &daemon.log()))
    };
    is_on_disk("10.244.77.0/24")?;
    // One that joins right after the file was written is not left out of it for long.
    bed.add_peer("late", 79)?;
    is_on_disk("10.244.79.0/24")?;
    daemon.terminate()?;
    bed.server.stop()?;
    // As after a reboot.
    bed.node("n1").namespace().ip("link del flannel.1")?;
    std::fs::remove_file(bed.node("n1").subnet_file()).context("remove subnet.env")?;
    let daemon = bed.start("n1", &[])?;
    let with_logs = |failure: Failure| failure.with("netd", &daemon.log());
    daemon.await_log("netd has started from its cache file", seconds(10))?;
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(with_logs)?;
    routed(bed.node("n1"), "10.244.79.0/24", true).map_err(with_logs)?;
    let status = bed.run("n1", "status")?;
    ensure!(status.contains("from its cache file"), "netd status says {status}");
    bed.server.resume()?;
    bed.server.delete(&path("old"))?;
    bed.add_peer("new", 78)?;
    routed(bed.node("n1"), "10.244.78.0/24", true).map_err(with_logs)?;
    routed(bed.node("n1"), "10.244.77.0/24", false).map_err(with_logs)?;
    let status = bed.run("n1", "status")?;
    ensure!(!status.contains("from its cache file"), "netd status says still {status}");
    // Without a memory it waits, and says for what.
    daemon.terminate()?;
    bed.server.stop()?;
    std::fs::remove_dir_all(&folder).context("remove the memory")?;
    let daemon = bed.launch("n1", &[health::FLAG])?;
    health::await_waiting(bed.node("n1"), "the API server cannot be reached")?;
    bed.server.resume()?;
    daemon.await_ready()
}

fn nameless() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    bed.server.stop()?;
    let flags = bed.flags("n1");
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain([health::FLAG]).collect();
    let n1 = bed.fabric.node("n1");
    let _daemon = n1.launch_netd_by(&flags, |usual| {
        let mut nameless = Command::new(usual.get_program());
        let arguments: Vec<_> = usual.get_args().collect();
        let named = arguments.iter().position(|argument| *argument == "--node-name").map_or(0..0, |at| at..at + 2);
        let kept = arguments.iter().enumerate().filter(|(place, _)| !named.contains(place));
        nameless.args(kept.map(|(_, argument)| argument)).env("POD_NAME", "netd-x").env("POD_NAMESPACE", "netd");
        nameless
    })?;
    health::await_waiting(n1, "cannot read Pod netd/netd-x")?;
    bed.server.resume()?;
    // The manifest gives the name, and so no right to ask for it.
    health::await_waiting(n1, "cannot get resource \"pods\"")
}

pub(crate) fn proxied() -> Outcome<(Bed, Proxy)> {
    let bed = Bed::with(&vxlan())?;
    let proxy = Proxy::start(bed.node("n1").namespace(), &bed.server.folder().join("proxy.sock"))?;
    Ok((bed, proxy))
}

const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"kind\":\"Status\",\"code\":500,\"message\":\"etcdserver: leader changed\"}";
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n\r\nToo many requests, please try again later.\n";
const NONSENSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Welcome to the captive portal</html>\n";
const CONFLICT: &str =
    "HTTP/1.1 409 Conflict\r\nConnection: close\r\n\r\n{\"code\":409,\"message\":\"the object has been modified\"}";

fn refused_once() -> Outcome {
    for answer in [BROKEN, BUSY, NONSENSE, CONFLICT] {
        let (bed, proxy) = proxied()?;
        proxy.answer("PATCH /api/v1/nodes/n1/status", answer, 2);
        let daemon = bed.start("n1", &[URL])?;
        let with_logs = |failure: Failure| failure.with("netd", &daemon.log());
        bed.await_annotation("n1", "backend-type", "vxlan").map_err(with_logs)?;
        // The condition's own write is refused too.
        proxy.answer("PATCH /api/v1/nodes/n1/status", answer, 1);
        bed.server.delete(&path("n1"))?;
        bed.add_node("n1", &["10.244.1.0/24"], &json!({}))?;
        bed.await_annotation("n1", "backend-type", "vxlan").map_err(with_logs)?;
        bed.await_available("n1").map_err(with_logs)?;
        ensure!(proxy.answered() == 3, "{} requests were refused", proxy.answered());
    }
    Ok(())
}

fn nonsense() -> Outcome {
    let (bed, proxy) = proxied()?;
    bed.add_peer("peer", 77)?;
    let daemon = bed.start("n1", &[URL])?;
    let with_logs = |failure: Failure| failure.with("netd", &daemon.log());
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(with_logs)?;
    for (answer, words) in [(BUSY, "too much to do"), (BROKEN, "leader changed"), (NONSENSE, "makes no sense")] {
        for request in ["GET /api/v1/nodes?", "GET /api/v1/namespaces"] {
            proxy.answer(request, answer, usize::MAX);
        }
        // Watches that were begun before would go on.
        proxy.cut();
        daemon.await_log(words, seconds(60))?;
        eventually(seconds(60), "it has asked more than once", || {
            ensure!(proxy.answered() > 3, "it has asked {} times", proxy.answered());
            Ok(())
        })?;
        routed(bed.node("n1"), "10.244.77.0/24", true)?;
        proxy.let_pass();
        eventually(seconds(90), "the store is followed again", || {
            let log = daemon.log();
            let (trouble, end) = (log.rfind("as it was last known"), log.rfind("can be followed again"));
            ensure!(trouble < end, "it is not");
            Ok(())
        })
        .map_err(with_logs)?;
        ensure!(count(&daemon.log(), words) <= 4, "it was said too often: {}", daemon.log());
    }
    bed.add_peer("next", 78)?;
    routed(bed.node("n1"), "10.244.78.0/24", true).map_err(with_logs)
}

fn rights() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/netd";
    let rules = bed.server.get(role)?["rules"].clone();
    bed.server.patch(role, &json!({ "rules": [] }))?;
    // The API server learns of it in its own time.
    let token = bed.server.account_token("netd", "netd")?;
    eventually(seconds(60), "netd has no rights", || bed.server.refused(&token, &["get", "node", "n1"]).map(drop))?;
    let daemon = bed.launch("n1", &[])?;
    daemon.await_log("cannot get resource \"nodes\"", seconds(30))?;
    daemon.await_log("apply the ClusterRole", seconds(10))?;
    let status = bed.run("n1", "status")?;
    ensure!(status.contains("cannot get resource"), "netd status says {status}");
    bed.server.patch(role, &json!({ "rules": [rules[0]] }))?;
    daemon.await_log("cannot patch resource \"nodes/status\"", seconds(60))?;
    bed.server.patch(role, &json!({ "rules": rules }))?;
    eventually(seconds(60), "the lease is published", || {
        ensure!(bed.annotation("n1", "backend-type")? == "vxlan", "it is not: {}", daemon.log());
        Ok(())
    })?;
    daemon.await_ready()
}

fn token() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let good = bed.server.account_token("netd", "netd")?;
    let kubeconfig = bed.server.kubeconfig("other", "of-nobody")?;
    let flag = format!("--kubeconfig-file={}", kubeconfig.display());
    let flags = bed.flags("n1");
    let flags: Vec<&str> = flags
        .iter()
        .map(String::as_str)
        .filter(|flag| !flag.starts_with("--kubeconfig-file"))
        .chain([&*flag])
        .collect();
    let daemon = bed.node("n1").launch_netd(&flags)?;
    daemon.await_log("401", seconds(30))?;
    daemon.await_log("its token is mounted", seconds(10))?;
    bed.server.kubeconfig("other", &good)?;
    daemon.await_ready()?;
    ensure!(count(&daemon.log(), "the API server says 401") <= 2, "it was said too often: {}", daemon.log());
    Ok(())
}

fn certificate() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let flags = bed.flags("n1");
    let kubeconfig = flags[1].trim_start_matches("--kubeconfig-file=");
    let text = std::fs::read_to_string(kubeconfig).context("read the kubeconfig")?;
    let other = bed.fabric.disk().join("other.kubeconfig");
    std::fs::write(&other, text.replace("/ca.pem", "/kubelet-client.pem")).context("write a kubeconfig")?;
    let flag = format!("--kubeconfig-file={}", other.display());
    let flags: Vec<&str> = [&*flags[0], &*flag, &*flags[2], &*flags[3]].to_vec();
    let daemon = bed.node("n1").launch_netd(&flags)?;
    daemon.await_log("its certificate is not accepted", seconds(30))?;
    std::fs::write(&other, text).context("write a kubeconfig")?;
    daemon.await_ready()
}

fn moved() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.add_peer("peer", 77)?;
    let daemon = bed.start("n1", &[])?;
    let with_logs = |failure: Failure| failure.with("netd", &daemon.log());
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(with_logs)?;
    bed.server.delete(&path("n1"))?;
    bed.add_node("n1", &["10.244.50.0/24"], &json!({}))?;
    bed.await_event("n1", "PodCIDRChanged", "drain the node").map_err(with_logs)?;
    eventually(seconds(30), "netd status says so", || {
        let status = bed.run("n1", "status")?;
        ensure!(status.contains("podCIDR 10.244.50.0/24 now"), "it says {status}");
        Ok(())
    })
    .map_err(with_logs)?;
    routed(bed.node("n1"), "10.244.77.0/24", true)?;
    ensure!(bed.annotation("n1", "backend-type")?.is_empty(), "it publishes a range that is not its own");
    // That the Node changes otherwise is no news, to nobody.
    for number in 0..5_u8 {
        bed.server.patch(&path("n1"), &json!({ "metadata": { "labels": { "of-nobody": number.to_string() } } }))?;
        bed.passes_on("n1", 100 + number).map_err(with_logs)?;
    }
    let warns = |of: &str| daemon.log().lines().filter(|line| line.contains("WARN") && line.contains(of)).count();
    ensure!(warns("podCIDR 10.244.50.0/24 now") == 1, "it was said more than once: {}", daemon.log());
    // Nor is the other range published by this node itself.
    bed.server.delete(&path("n1"))?;
    bed.add_node("n1", &["10.244.60.0/24"], &crate::bed::flannels(11))?;
    bed.await_event("n1", "PodCIDRChanged", "the store has 10.244.60.0/24").map_err(with_logs)?;
    eventually(seconds(30), "netd status says so", || {
        let status = bed.run("n1", "status")?;
        let problems = status.split_once("PROBLEMS").map(|(_, problems)| problems).unwrap_or_default();
        ensure!(problems.contains("has 10.244.60.0/24 for this node now"), "it says {status}");
        ensure!(!problems.contains("10.244.50.0/24"), "what is over is there still: {status}");
        Ok(())
    })
    .map_err(with_logs)?;
    for n in 0..3_u8 {
        bed.annotate("n1", &json!({ "public-ip": format!("192.168.1.{n}") }))?;
        bed.passes_on("n1", 110 + n).map_err(with_logs)?;
    }
    ensure!(warns("10.244.60.0/24") == 1, "it was said more than once: {}", daemon.log());
    let events = bed.events("n1")?;
    for range in ["10.244.50.0/24", "10.244.60.0/24"] {
        let count = events.iter().filter(|event| event["message"].to_string().contains(range)).count();
        ensure!(count == 1, "{count} Events are about {range}: {events:?}");
    }
    // With its own range again all is well.
    bed.server.delete(&path("n1"))?;
    bed.add_node("n1", &["10.244.1.0/24"], &json!({}))?;
    bed.await_annotation("n1", "backend-type", "vxlan").map_err(with_logs)?;
    eventually(seconds(60), "netd status says no more of it", || {
        let status = bed.run("n1", "status")?;
        ensure!(!status.contains("PROBLEMS"), "it says {status}");
        Ok(())
    })
    .map_err(with_logs)?;
    daemon.await_log("no longer: the store has 10.244.60.0/24", seconds(10))
}

fn put_back() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    bed.add_peer("kept", 77)?;
    let daemon = bed.start("n1", &[])?;
    let with_logs = |failure: Failure| failure.with("netd", &daemon.log());
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(with_logs)?;
    bed.await_annotation("n1", "backend-type", "vxlan").map_err(with_logs)?;
    let backup = bed.server.back_up(&bed.fabric, "api")?;
    bed.add_peer("lost", 78)?;
    routed(bed.node("n1"), "10.244.78.0/24", true).map_err(with_logs)?;
    // More is written than the API server itself writes when it starts again.
    bed.server.create_many(
        "/api/v1/namespaces/default/configmaps",
        1000,
        |number| json!({ "metadata": { "name": format!("lost-{number}") } }),
    )?;
    bed.annotate("n1", &json!({ "public-ip-overwrite": "172.18.0.2" }))?;
    bed.await_annotation("n1", "public-ip", "172.18.0.2").map_err(with_logs)?;
    bed.server.restore(&bed.fabric, "api", &backup)?;
    bed.await_annotation("n1", "public-ip", "192.168.1.11").map_err(with_logs)?;
    routed(bed.node("n1"), "10.244.78.0/24", false).map_err(with_logs)?;
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(with_logs)?;
    bed.add_peer("new", 79)?;
    routed(bed.node("n1"), "10.244.79.0/24", true).map_err(with_logs)?;
    // Before a way is closed, netd reads what all peers have said up to its own last word.
    for peer in ["kept", "new"] {
        bed.server.delete(&path(peer))?;
    }
    bed.configure(&netd_tests::net_conf(netd_tests::Stack::V4, &json!({ "Type": "host-gw" })).to_string())?;
    bed.await_annotation("n1", "backend-type", "host-gw").map_err(with_logs)?;
    eventually(seconds(25), "the tunnel is gone", || {
        ensure!(kernel::link(bed.node("n1").namespace(), "flannel.1")?.is_none(), "it is there");
        Ok(())
    })
    .map_err(with_logs)?;
    let log = daemon.log();
    ensure!(count(&log, "put back to an earlier state") >= 1, "it has not seen it: {log}");
    ensure!(!log.contains("the store does not answer"), "it waits for what was lost: {log}");
    Ok(())
}

fn no_events() -> Outcome {
    let bed = Bed::bare(&topology(), &vxlan())?;
    bed.add_nodes(netd_tests::Stack::V4)?;
    bed.server.delete("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/netd-events")?;
    let daemon = bed.start("n1", &[])?;
    bed.configure("{")?;
    daemon.await_log("Events cannot be recorded", seconds(60))?;
    bed.configure(&netd_tests::net_conf(netd_tests::Stack::V4, &json!({ "Type": "host-gw" })).to_string())?;
    bed.await_annotation("n1", "backend-type", "host-gw")?;
    eventually(seconds(60), "the tunnel is gone", || {
        ensure!(kernel::link(bed.node("n1").namespace(), "flannel.1")?.is_none(), "it is there");
        Ok(())
    })
}
