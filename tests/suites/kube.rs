//! The store in Node objects, against a real API server: flannel's annotations, podCIDRs as they come, a `ConfigMap` that changes, and
//! all that can happen to an API server.

#[path = "kube/bed.rs"]
mod bed;
#[path = "kube/clock.rs"]
mod clock;
#[path = "kube/conf.rs"]
mod conf;
#[path = "kube/credentials.rs"]
mod credentials;
#[path = "kube/families.rs"]
mod families;
#[path = "kube/flannel.rs"]
mod flannel;
#[path = "kube/identity.rs"]
mod identity;
#[path = "kube/own_node.rs"]
mod own_node;
#[path = "kube/proxy.rs"]
mod proxy;
#[path = "kube/trouble.rs"]
mod trouble;
#[path = "kube/two.rs"]
mod two;

use std::process::ExitCode;
use std::time::Instant;

use netd_tests::apiserver::{self, ACCOUNT, MANY_IMAGES, node_object};
use netd_tests::peers::FLANNELD;
use netd_tests::suite::{from_the_start, test};
use netd_tests::{
    Context, Outcome, Stack, Topology, ensure, eventually, health, kernel, net_conf, peers, seconds, wall_clock,
};
use serde_json::json;

use bed::{Bed, PREFIX, path, routed, topology, vxlan};

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || peers::prepare(&[&apiserver::PROGRAMS[..], &[FLANNELD]].concat()).and_then(|()| wall_clock::prepare()),
        || {
            let mut trials = vec![
                test("flags that cannot be meant are refused by name", flags),
                test("flannel's annotations byte for byte, and nothing is written twice", annotations),
                test("peers see what the node's owner wants them to", overwrite),
                test("a podCIDR that comes late is waited for, and said", late),
                test("a podCIDR outside of the network ends netd, and nothing is written", outside),
                test("what ends netd at its start is an Event on its Node", ends),
                test("dual stack, a peer changes only one public address", only_one),
                test("two podCIDRs in any order, and never three", orders),
                test("strangers' annotations stop nobody", strangers),
                test("a node that takes no part any more is gone", leaves),
                test("pods of three nodes talk", talk),
                test("netd cleanup takes netd's annotations away", cleanup),
                test("an API server that streams no lists", pages),
                test("5,000 Nodes", many),
            ];
            trials.push(clock::trial());
            trials.extend(conf::trials());
            trials.extend(own_node::trials());
            trials.extend(trouble::trials());
            trials.extend(credentials::trials());
            trials.extend(families::trials());
            trials.extend(flannel::trials());
            trials.extend(two::trials());
            trials.extend(identity::trials());
            trials.push(from_the_start("drift is repaired while the API server hangs for a minute", trouble::hangs));
            trials
        },
    )
}

fn flags() -> Outcome {
    let fabric = topology().build()?;
    for (arguments, words) in [
        (
            vec!["--kube-subnet-mgr", "--kube-annotation-prefix=org/x"],
            vec!["--kube-annotation-prefix", "fqdn/[0-9a-z-_]*"],
        ),
        (vec!["--kube-subnet-mgr", "--kube-annotation-prefix=a.b/c/d"], vec!["a.b/c/d", "single slash"]),
        (vec!["--kube-subnet-mgr", "--kube-api-url=1.2.3.4"], vec!["--kube-api-url", "https://"]),
        (vec!["--kube-subnet-mgr", "--net-conf-configmap=x"], vec!["--net-conf-configmap", "NAMESPACE/NAME"]),
        (vec!["--kube-subnet-mgr", "--etcd-prefix=/x"], vec!["--etcd-", "--kube-subnet-mgr"]),
        (vec!["--kubeconfig-file=/x"], vec!["--kubeconfig-file", "--kube-subnet-mgr"]),
    ] {
        fabric.node("n1").refuses(&arguments, &words)?;
    }
    Ok(())
}

fn annotations() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let daemon = bed.start("n1", &[])?;
    let link = kernel::existing_link(bed.node("n1").namespace(), "flannel.1")?;
    let mac = link["address"].as_str().unwrap_or_default();
    for (name, wanted) in [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", &*format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
        ("public-ip", "192.168.1.11"),
        ("netd-receives", &*format!(r#"[{{"Type":"vxlan","VNI":1,"Port":8472,"VtepMAC":"{mac}"}}]"#)),
        ("netd-sends", "[]"),
    ] {
        bed.await_annotation("n1", name, wanted).map_err(|failure| failure.with("netd", &daemon.log()))?;
    }
    bed.await_available("n1")?;
    let env = std::fs::read_to_string(bed.node("n1").subnet_file()).unwrap_or_default();
    ensure!(env.contains("FLANNEL_SUBNET=10.244.1.1/24"), "subnet.env has\n{env}");
    daemon.terminate()?;
    let node = bed.server.get(&path("n1"))?;
    let daemon = bed.start("n1", &[])?;
    let now = bed.server.get(&path("n1"))?;
    bed.add_peer("stranger", 77)?;
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(|failure| failure.with("netd", &daemon.log()))?;
    bed.await_annotation("n1", "netd-sends", r#"[{"Type":"vxlan","VNI":1,"Port":8472}]"#)?;
    ensure!(now["metadata"]["resourceVersion"] == node["metadata"]["resourceVersion"], "it was {node}, and is {now}");
    // The audit log is behind.
    let refused = bed.answered(|code| code >= 400)?;
    ensure!(refused.is_empty(), "netd has asked for what it may not: {refused:?}");
    Ok(())
}

fn overwrite() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.annotate("n1", &json!({ "public-ip-overwrite": "172.18.0.2" }))?;
    let daemon = bed.start("n1", &[])?;
    let with_logs = |failure: netd_tests::Failure| failure.with("netd", &daemon.log());
    bed.await_annotation("n1", "public-ip", "172.18.0.2").map_err(with_logs)?;
    bed.annotate("n1", &json!({ "public-ip-overwrite": "172.18.0.3" }))?;
    bed.await_annotation("n1", "public-ip", "172.18.0.3").map_err(with_logs)?;
    // What a stranger changes beside it is put right, and the address is nobody else's for that.
    bed.annotate("n1", &json!({ "backend-type": "host-gw" }))?;
    bed.await_annotation("n1", "backend-type", "vxlan").map_err(with_logs)?;
    ensure!(!daemon.log().contains("another machine"), "netd says {}", daemon.log());
    bed.annotate("n1", &json!({ "public-ip-overwrite": null }))?;
    bed.await_annotation("n1", "public-ip", "192.168.1.11").map_err(with_logs)?;
    bed.annotate("n2", &json!({ "node-public-ip": "203.0.113.7" }))?;
    let n2 = bed.start("n2", &["--public-ip=198.51.100.1"])?;
    bed.await_annotation("n2", "public-ip", "203.0.113.7").map_err(|failure| failure.with("netd", &n2.log()))
}

fn late() -> Outcome {
    let bed = Bed::bare(&topology(), &vxlan())?;
    bed.add_node("n1", &[], &json!({}))?;
    let daemon = bed.launch("n1", &[health::FLAG])?;
    daemon.await_log("--allocate-node-cidrs", seconds(20))?;
    bed.await_event("n1", "NoPodCIDR", "--allocate-node-cidrs")?;
    health::await_waiting(bed.node("n1"), "--allocate-node-cidrs")?;
    // It goes on saying so when the Node has changed and lacks it still.
    bed.server.patch(&path("n1"), &json!({ "metadata": { "labels": { "of-nobody": "" } } }))?;
    health::await_waiting(bed.node("n1"), "--allocate-node-cidrs")?;
    ensure!(bed.annotation("n1", "backend-type")?.is_empty(), "it has written before it had a range");
    bed.server.patch(&path("n1"), &json!({ "spec": { "podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"] } }))?;
    daemon.await_ready()?;
    bed.await_annotation("n1", "backend-type", "vxlan")?;
    let status = bed.run("n1", "status")?;
    ensure!(!status.contains("--allocate-node-cidrs"), "netd status says still {status}");
    ensure!(bed.events("n1")?.len() == 1, "the Events are {:?}", bed.events("n1")?);
    Ok(())
}

fn outside() -> Outcome {
    let bed = Bed::bare(&topology(), &vxlan())?;
    bed.add_node("n1", &["10.99.1.0/24"], &json!({}))?;
    let mut daemon = bed.launch("n1", &[])?;
    let ended = daemon.await_end()?;
    ensure!(ended.code() == Some(1), "it ended with {ended}: {}", daemon.log());
    ensure!(daemon.log().contains("doesn't contain 10.99.1.0/24 PodCIDR"), "it said {}", daemon.log());
    bed.await_event("n1", "WrongPodCIDR", "--cluster-cidr")?;
    let annotations = bed.server.get(&path("n1"))?["metadata"]["annotations"].to_string();
    ensure!(!annotations.contains(PREFIX), "it has written {annotations}");
    Ok(())
}

fn ends() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let source = bed.fabric.disk().join("no.conflist");
    for (flag, word) in
        [("--iface=eth99".to_owned(), "eth99"), (format!("--cni-conf-source={}", source.display()), "no.conflist")]
    {
        let mut daemon = bed.launch("n1", &[&flag])?;
        let ended = daemon.await_end()?;
        ensure!(ended.code() == Some(1), "{flag}: it ended with {ended}: {}", daemon.log());
        let event =
            bed.await_event("n1", "CannotStart", word).map_err(|failure| failure.with("netd", &daemon.log()))?;
        let node = bed.server.get(&path("n1"))?;
        let is_of = &event["involvedObject"]["uid"];
        ensure!(*is_of == node["metadata"]["uid"], "{flag}: it is of {is_of}, not of {}", node["metadata"]["uid"]);
    }
    Ok(())
}

fn only_one() -> Outcome {
    let dual = Topology::one_segment(Stack::Dual).with("api", 1);
    let bed = Bed::bare(&dual, &net_conf(Stack::Dual, &json!({ "Type": "vxlan" })))?;
    bed.add_nodes(Stack::Dual)?;
    let mut peer = bed::flannels(77);
    peer["backend-v6-data"] = r#"{"VNI":1,"VtepMAC":"02:00:00:00:06:4d"}"#.into();
    peer["public-ipv6"] = "fd00:a:1::77".into();
    bed.add_node("peer", &["10.244.77.0/24", "fd00:10:244:77::/64"], &peer)?;
    let daemon = bed.start("n1", &[])?;
    let leads = |mac: &str, to: &str| {
        eventually(seconds(30), &format!("{mac} is at {to}"), || {
            let fdb = kernel::fdb(bed.node("n1").namespace())?;
            let at: Vec<_> = fdb.iter().filter(|(known, _)| known == mac).map(|(_, to)| to.to_string()).collect();
            ensure!(at == [to], "it is at {at:?}");
            Ok(())
        })
        .map_err(|failure| failure.with("netd", &daemon.log()))
    };
    leads("02:00:00:00:00:4d", "192.168.1.77")?;
    leads("02:00:00:00:06:4d", "fd00:a:1::77")?;
    bed.annotate("peer", &json!({ "public-ip": "192.168.1.78" }))?;
    leads("02:00:00:00:00:4d", "192.168.1.78")?;
    leads("02:00:00:00:06:4d", "fd00:a:1::77")?;
    bed.annotate("peer", &json!({ "public-ipv6": "fd00:a:1::78" }))?;
    leads("02:00:00:00:06:4d", "fd00:a:1::78")?;
    leads("02:00:00:00:00:4d", "192.168.1.78")
}

fn orders() -> Outcome {
    let dual = Topology::one_segment(Stack::Dual).with("api", 1);
    let bed = Bed::bare(&dual, &net_conf(Stack::Dual, &json!({ "Type": "vxlan" })))?;
    bed.add_node("n1", &["fd00:10:244:1::/64", "10.244.1.0/24"], &json!({}))?;
    let daemon = bed.start("n1", &[])?;
    let env = std::fs::read_to_string(bed.node("n1").subnet_file()).unwrap_or_default();
    for wanted in ["FLANNEL_SUBNET=10.244.1.1/24", "FLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64"] {
        ensure!(env.contains(wanted), "{wanted} is not in\n{env}\n{}", daemon.log());
    }
    // The API server itself lets nobody have three, or two of one family.
    let three = bed.add_node("n2", &["10.244.2.0/24", "fd00:10:244:2::/64", "10.244.3.0/24"], &json!({}));
    ensure!(three.is_err(), "the API server takes three podCIDRs");
    bed.add_node("n2", &["10.244.2.0/24"], &json!({}))?;
    let mut lacks = bed.launch("n2", &[])?;
    ensure!(lacks.await_end()?.code() == Some(1), "it said {}", lacks.log());
    ensure!(lacks.log().contains("has no IPv6 podCIDR"), "it said {}", lacks.log());
    Ok(())
}

fn strangers() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    for (n, (name, value)) in [
        ("backend-data", "{"),
        ("backend-data", r#"{"VNI":99999999,"VtepMAC":"x"}"#),
        ("public-ip", "no address"),
        ("backend-type", ""),
        ("netd-receives", "[7]"),
    ]
    .into_iter()
    .enumerate()
    {
        let n = u8::try_from(100 + n).context("few")?;
        let mut annotations = bed::flannels(n);
        annotations[name] = value.into();
        annotations["netd-sends"] = "[]".into();
        bed.add_node(&format!("bad-{n}"), &[&format!("10.244.{n}.0/24")], &annotations)?;
    }
    bed.add_node("none", &[], &bed::flannels(90))?;
    // One claims this node's own range, another its address.
    bed.add_node("thief", &["10.244.1.0/25"], &bed::flannels(91))?;
    let mut double = bed::flannels(92);
    double["public-ip"] = "192.168.1.11".into();
    bed.add_node("double", &["10.244.92.0/24"], &double)?;
    bed.add_peer("good", 77)?;
    let daemon = bed.start("n1", &[])?;
    routed(bed.node("n1"), "10.244.77.0/24", true).map_err(|failure| failure.with("netd", &daemon.log()))?;
    daemon.await_log("bad-100", seconds(10))?;
    for range in ["10.244.92.0/24", "10.244.100.0/24", "10.244.1.0/25"] {
        routed(bed.node("n1"), range, false)?;
    }
    let status = bed.run("n1", "status")?;
    for word in ["thief", "double", "overlaps this node's own"] {
        ensure!(status.contains(word), "netd status does not say {word:?}: {status}");
    }
    let passed_over = |node: &str, why: &str| {
        eventually(seconds(10), &format!("netd status says that {node} is passed over"), || {
            let status = bed.run("n1", "status")?;
            let named = |line: &str| line.contains(&format!("Node {node} is passed over")) && line.contains(why);
            ensure!(status.lines().any(named), "netd status is {status}");
            Ok(())
        })
    };
    for (node, why) in [("bad-100", "backend-data"), ("bad-102", "no address"), ("bad-103", "backend-type")] {
        passed_over(node, why)?;
    }
    // What a node said last stands while it talks nonsense.
    bed.annotate("good", &json!({ "backend-data": "{{{" }))?;
    passed_over("good", "{{{")?;
    bed.add_peer("next", 78)?;
    routed(bed.node("n1"), "10.244.78.0/24", true)?;
    routed(bed.node("n1"), "10.244.77.0/24", true)
}

fn leaves() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.add_peer("a", 77)?;
    bed.add_peer("b", 78)?;
    let daemon = bed.start("n1", &[])?;
    for range in ["10.244.77.0/24", "10.244.78.0/24"] {
        routed(bed.node("n1"), range, true)?;
    }
    bed.annotate("a", &json!({ "kube-subnet-manager": null }))?;
    routed(bed.node("n1"), "10.244.77.0/24", false)?;
    bed.server.delete(&path("b"))?;
    routed(bed.node("n1"), "10.244.78.0/24", false)?;
    // Its own annotations are put back.
    bed.annotate("n1", &json!({ "kube-subnet-manager": null, "public-ip": null }))?;
    let restored = bed.await_annotation("n1", "public-ip", "192.168.1.11");
    restored.map_err(|failure| failure.with("netd", &daemon.log()))?;
    bed.await_annotation("n1", "kube-subnet-manager", "true")
}

fn talk() -> Outcome {
    let bed = Bed::bare(&Topology::two_segments(Stack::V4).with("api", 1), &vxlan())?;
    bed.add_nodes(Stack::V4)?;
    let (cluster, _server) = bed.cluster()?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?, cluster.pod("n3", "c")?];
    for from in &pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            cluster.settle(from, to)?;
            cluster.talk(from, to)?;
        }
    }
    Ok(())
}

fn cleanup() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.annotate("n1", &json!({ "public-ip-overwrite": "172.18.0.2" }))?;
    let daemon = bed.start("n1", &[])?;
    daemon.terminate()?;
    let said = bed.run("n1", "cleanup")?;
    let node = bed.server.get(&path("n1"))?;
    let left = node["metadata"]["annotations"].to_string();
    ensure!(left.matches(PREFIX).count() == 1 && left.contains("public-ip-overwrite"), "{left} is left: {said}");
    ensure!(kernel::link(bed.node("n1").namespace(), "flannel.1")?.is_none(), "the device is left: {said}");
    let state = std::fs::read_dir(bed.fabric.disk().join("n1/state")).into_iter().flatten().count();
    ensure!(state == 0, "what was known of the network is left on disk");
    Ok(())
}

fn pages() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    bed.server.restart_with("WatchList=false,WatchListClient=false")?;
    bed.add_peer("early", 77)?;
    let daemon = bed.start("n1", &[])?;
    let n1 = bed.node("n1");
    routed(n1, "10.244.77.0/24", true).map_err(|failure| failure.with("netd", &daemon.log()))?;
    bed.add_peer("later", 78)?;
    routed(n1, "10.244.78.0/24", true).map_err(|failure| failure.with("netd", &daemon.log()))?;
    let asked = bed.server.requests()?;
    let lists = asked.iter().filter(|event| event["verb"] == "list" && event["user"]["username"] == ACCOUNT);
    let lists: Vec<&str> = lists.filter_map(|event| event["requestURI"].as_str()).collect();
    ensure!(lists.iter().any(|uri| uri.contains("/nodes?") && uri.contains("limit=")), "it has asked for {lists:?}");
    Ok(())
}

fn many() -> Outcome {
    const COUNT: usize = 5000;
    let conf = json!({ "Network": "10.0.0.0/8", "Backend": { "Type": "vxlan" } });
    let bed = Bed::bare(&topology(), &conf)?;
    bed.add_nodes(Stack::V4)?;
    bed.server.create_many("/api/v1/nodes", COUNT, |number| {
        let (high, low) = (number / 256, number % 256);
        let range = format!("10.{}.{low}.0/24", 100 + high);
        let annotations = json!({
            format!("{PREFIX}backend-data"): format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:01:{high:02x}:{low:02x}"}}"#),
            format!("{PREFIX}backend-type"): "vxlan",
            format!("{PREFIX}kube-subnet-manager"): "true",
            format!("{PREFIX}public-ip"): format!("172.16.{high}.{low}"),
        });
        node_object(&format!("peer-{number:05}"), &[&range], &annotations, MANY_IMAGES)
    })?;
    let begun = Instant::now();
    let daemon = bed.start("n1", &[])?;
    let all = eventually(seconds(120), "every peer is in the kernel", || {
        let count = kernel::fdb(bed.node("n1").namespace())?.len();
        ensure!(count >= COUNT, "{count} are");
        Ok(begun.elapsed())
    })
    .map_err(|failure| failure.with("netd", &daemon.log()))?;
    let memory = || status_of(daemon.process());
    let lines = |text: String| {
        text.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect::<Vec<_>>().join(" ")
    };
    println!("{COUNT} Nodes: all peers in the kernel after {} ms; {}", all.as_millis(), lines(memory()?));
    let changed = Instant::now();
    bed.annotate("peer-00042", &json!({ "public-ip": "172.16.200.1" }))?;
    eventually(seconds(20), "a change is in the kernel", || {
        let fdb = kernel::fdb(bed.node("n1").namespace())?;
        ensure!(fdb.iter().any(|(_, to)| to.to_string() == "172.16.200.1"), "it is not");
        Ok(())
    })?;
    println!("a change after {} ms, of which much is the asking; {}", changed.elapsed().as_millis(), lines(memory()?));
    Ok(())
}

/// What /proc says of a process. The suite may be in a namespace of processes, whose numbers /proc does not know.
fn status_of(process: u32) -> Outcome<String> {
    let number = process.to_string();
    let texts = std::fs::read_dir("/proc").context("list processes")?.flatten();
    let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok());
    let is_it = |text: &String| {
        let inside = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        text.starts_with("Name:\tnetd\n") && inside.and_then(|line| line.split_whitespace().last()) == Some(&number)
    };
    texts.find(is_it).context("no such process")
}
