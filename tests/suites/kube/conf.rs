//! The network configuration changes: in the `ConfigMap` itself, and in a mounted file.

use std::time::Instant;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::apiserver::ACCOUNT;
use netd_tests::suite::test;
use netd_tests::{Context, Load, Outcome, Stack, ensure, eventually, kernel, net_conf, seconds};
use serde_json::{Value, json};

use crate::bed::{Bed, NODES, PREFIX, configure, path, routed, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("the ConfigMap changes the backend under flows", switch),
        test("an invalid ConfigMap changes nothing, and is said", invalid),
        test("a stranger's text in an Event is escaped and cut", escaped),
        test("the configuration in a mounted file is followed", mounted),
    ]
}

fn switch() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let (cluster, server) = bed.cluster()?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?, cluster.pod("n3", "c")?];
    for from in &pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            cluster.settle(from, to)?;
        }
    }
    let with_logs = |failure| cluster.with_logs(failure);
    let load = Load::between(&[&pods[0], &pods[1], &pods[2]])?;
    for backend in [json!({ "Type": "host-gw" }), json!({ "Type": "vxlan" })] {
        let edited = Instant::now();
        configure(&server, &net_conf(Stack::V4, &backend))?;
        let device = if backend["Type"] == "vxlan" { "flannel.1" } else { "eth0" };
        for (name, range) in [("n1", "10.244.2.0/24"), ("n2", "10.244.3.0/24"), ("n3", "10.244.1.0/24")] {
            eventually(seconds(60), &format!("{name} sends by {backend}"), || {
                let route = kernel::route(cluster.node(name).namespace(), Family::V4, range)?;
                ensure!(route.as_ref().is_some_and(|route| route["dev"] == device), "the route is {route:?}");
                Ok(())
            })
            .map_err(with_logs)?;
        }
        println!("every node sends by {backend} {} ms after the edit", edited.elapsed().as_millis());
        // The old way closes when the last packets have passed.
        eventually(seconds(60), "the former way is closed", || {
            for name in NODES {
                let node = server.get(&path(name))?;
                let receives = node["metadata"]["annotations"][format!("{PREFIX}netd-receives")].to_string();
                ensure!(receives.matches("Type").count() == 1, "{name} receives by {receives}");
            }
            Ok(())
        })
        .map_err(with_logs)?;
    }
    load.unharmed().map_err(with_logs)?;
    // With thousands of Nodes a list takes longer than anybody may wait for who receives by what.
    let requests = server.requests()?;
    let lists = |event: &&Value| {
        let is_of_nodes = event["requestURI"].as_str().is_some_and(|uri| uri.starts_with("/api/v1/nodes"));
        event["user"]["username"] == ACCOUNT && event["verb"] == "list" && is_of_nodes
    };
    ensure!(requests.iter().any(|event| event["user"]["username"] == ACCOUNT), "netd asked for nothing");
    let lists: Vec<&Value> = requests.iter().filter(lists).collect();
    ensure!(lists.is_empty(), "netd has listed Nodes: {lists:?}");
    Ok(())
}

fn invalid() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.add_peer("peer", 77)?;
    let daemon = bed.start("n1", &[])?;
    routed(bed.node("n1"), "10.244.77.0/24", true)?;
    let before = kernel::existing_link(bed.node("n1").namespace(), "flannel.1")?;
    for conf in ["{", r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "bogus"}}"#] {
        bed.configure(conf)?;
        let word = if conf == "{" { "net-conf.json must hold one JSON object" } else { "bogus" };
        bed.await_event("n1", "InvalidConfiguration", word).map_err(|failure| failure.with("netd", &daemon.log()))?;
        // The Event may be there before the run that puts it into the status too.
        eventually(seconds(30), "netd status shows it", || {
            let status = bed.run("n1", "status")?;
            ensure!(
                status.contains("is refused, the network stays as it is") && status.contains(word),
                "it says {status}"
            );
            Ok(())
        })?;
    }
    let after = kernel::existing_link(bed.node("n1").namespace(), "flannel.1")?;
    ensure!(before["ifindex"] == after["ifindex"], "the device was {before}, and is {after}");
    bed.configure(&vxlan().to_string())?;
    eventually(seconds(30), "all is well again", || {
        let status = bed.run("n1", "status")?;
        ensure!(!status.contains("is refused"), "netd status says {status}");
        Ok(())
    })?;
    bed.configure("{")?;
    eventually(seconds(30), "the same fault is reported again after it was over", || {
        let events = bed.events("n1")?;
        let is_repeated = events.iter().any(|event| event["count"] == 2);
        ensure!(events.len() == 2 && is_repeated, "the Events are {events:?}");
        Ok(())
    })
}

/// What moves the cursor, changes the direction of the text, or begins a line of its own.
fn escaped() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let daemon = bed.start("n1", &[])?;
    let kind = format!("bogus\n\u{1b}[2J\u{202e}{}", "x".repeat(2000));
    let mut conf = net_conf(Stack::V4, &json!({ "Type": kind }));
    bed.configure(&conf.to_string())?;
    let message = |word: &str| -> Outcome<String> {
        let event = bed
            .await_event("n1", "InvalidConfiguration", word)
            .map_err(|failure| failure.with("netd", &daemon.log()))?;
        event["message"].as_str().map(str::to_owned).context("no message")
    };
    let is_harmless = |text: &str| {
        let bad = text.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
        ensure!(bad.is_none() && text.len() < 1000, "{} bytes with {bad:?}: {text:?}", text.len());
        Ok(())
    };
    is_harmless(&message("bogus")?)?;
    // A key, a range, and text that is no JSON.
    conf["Backend"] = json!({ "Type": "vxlan" });
    conf["Network"] = format!("worse\n\u{1b}[2J\u{202e}{}", "x".repeat(2000)).into();
    bed.configure(&conf.to_string())?;
    is_harmless(&message("worse")?)?;
    bed.configure(&format!("nonsense\n\u{1b}[2J\u{202e}{}", "x".repeat(2000)))?;
    is_harmless(&message("one JSON object")?)
}

fn mounted() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    // As kubelet mounts a ConfigMap: a link decides which folder counts.
    let folder = bed.fabric.disk().join("mounted");
    let write = |version: &str, text: &str| -> Outcome {
        let place = folder.join(version);
        std::fs::create_dir_all(&place).context("make a folder")?;
        std::fs::write(place.join("net-conf.json"), text).context("write a file")?;
        std::os::unix::fs::symlink(version, folder.join("..data_tmp")).context("make a link")?;
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).context("put the link in its place")
    };
    write("..1", &vxlan().to_string())?;
    let file = folder.join("net-conf.json");
    std::os::unix::fs::symlink("..data/net-conf.json", &file).context("make a link")?;
    let path = format!("--net-config-path={}", file.display());
    let flags = bed.flags("n1");
    let flags = flags.iter().map(String::as_str).filter(|flag| !flag.starts_with("--net-conf-configmap"));
    let flags: Vec<&str> = flags.chain([&*path]).collect();
    let _daemon = bed.node("n1").start_netd(&flags)?;
    write("..2", &net_conf(Stack::V4, &json!({ "Type": "host-gw" })).to_string())?;
    bed.await_annotation("n1", "backend-type", "host-gw")
}
