//! What netd reads and writes on disk: `subnet.env`, the conflist, the store; and everything that can be wrong there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::backend::vxlan;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Fabric, Outcome, Peer, Snapshot, Stack, Topology, ensure, eventually, kernel, net_conf, peer,
    seconds,
};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = vec![
            test("subnet.env of IPv4, byte for byte", subnet_env_v4),
            test("subnet.env of both families, byte for byte", subnet_env_dual),
            test("the folder of subnet.env is made", missing_folder),
            test("a full disk keeps netd from being ready until there is space", full_disk),
            test("the conflist appears with readiness and stays whole", conflist),
            test("files of netd's own that are deleted come back", deleted),
            test("nodes that start together get subnets of their own", together),
            test("a restart gets the same subnet, also when the device is gone", same_subnet),
            test("subnets exhausted is a clear error", exhausted),
            test("a lease outside of the network is replaced", outside),
            test("peers whose records are wrong are skipped and logged, the others work", liars),
            test("a garbage record is logged once and skipped", garbage),
            test("a store that vanishes leaves the data path alone", vanished),
            test("a store that cannot be is a clear error", no_store),
            test("an interface that is not there is a clear error", || no_interface("nope0")),
            test("an interface name of 16 bytes is a clear error", || no_interface("a-name-of-16-byt")),
        ];
        for (name, conf, said) in wrong_net_confs() {
            trials.push(test(format!("a wrong net-conf is an error before anything is touched/{name}"), move || {
                refused(&conf, &[], &said)
            }));
        }
        trials
    })
}

/// Each with the words that the error must hold: the field, the value, the allowed range.
fn wrong_net_confs() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let backend = |backend: Value| net_conf(Stack::V4, &backend).to_string();
    let network = |fields: &str| format!("{{ {fields}, \"Backend\": {{ \"Type\": \"vxlan\" }} }}");
    vec![
        ("no JSON", "{ \"Network\": ".to_owned(), vec!["net-conf.json"]),
        ("bogus backend", backend(json!({ "Type": "bogus" })), vec!["unknown backend type: bogus"]),
        ("VNI too large", backend(json!({ "Type": "vxlan", "VNI": 16_777_216 })), vec!["VNI", "16777216", "16777215"]),
        ("VNI no number", backend(json!({ "Type": "vxlan", "VNI": "x" })), vec!["VNI", "x"]),
        ("Port too large", backend(json!({ "Type": "vxlan", "Port": 70000 })), vec!["Port", "70000", "65535"]),
        ("MTU too small", backend(json!({ "Type": "vxlan", "MTU": 40 })), vec!["MTU", "40"]),
        ("no network", network("\"SubnetLen\": 24"), vec!["Network"]),
        ("IPv6 as Network", network("\"Network\": \"fd00::/56\""), vec!["Network", "fd00::/56"]),
        ("SubnetLen 31", network("\"Network\": \"10.3.0.0/16\", \"SubnetLen\": 31"), vec!["SubnetLen"]),
        ("too few subnets", network("\"Network\": \"10.3.0.0/16\", \"SubnetLen\": 17"), vec!["four subnets"]),
        ("Network too small", network("\"Network\": \"10.3.0.0/29\""), vec!["/28"]),
        ("SubnetMin outside", network("\"Network\": \"10.3.0.0/16\", \"SubnetMin\": \"10.9.0.0\""), vec!["SubnetMin"]),
        ("no family", network("\"EnableIPv4\": false"), vec!["EnableIPv4"]),
    ]
}

/// netd must end with 1, say all of `said`, and leave the kernel and the disk as they were.
fn refused(conf: &str, arguments: &[&str], said: &[&str]) -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    std::fs::write(fabric.store.join("net-conf.json"), conf).context("write net-conf.json")?;
    refuses(&fabric, arguments, said)
}

fn refuses(fabric: &Fabric, arguments: &[&str], said: &[&str]) -> Outcome {
    let n1 = fabric.node("n1");
    let folders = [n1.cni_conf_dir()];
    n1.await_interface()?;
    let before = Snapshot::take(n1.namespace(), &folders)?;
    let mut daemon = n1.launch_netd(arguments)?;
    let status = daemon.await_end()?;
    let log = daemon.log();
    ensure!(status.code() == Some(1), "netd ended with {status}: {log}");
    for word in said {
        ensure!(log.contains(word), "the error does not hold {word:?}: {log}");
    }
    before.same_as(&Snapshot::take(n1.namespace(), &folders)?)?;
    ensure!(!n1.subnet_file().exists(), "subnet.env was written");
    Ok(())
}

fn no_interface(name: &'static str) -> Outcome {
    refused(&net_conf(Stack::V4, &vxlan()).to_string(), &["--iface", name], &[name])
}

fn no_store() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    // A file where the folder of nodes should be: nobody can write there, not even root.
    std::fs::write(fabric.store.join("nodes"), "").context("make a file")?;
    refuses(&fabric, &[], &["nodes"])
}

fn text(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).context(format!("read {}", path.display()))
}

fn subnet_env_v4() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &["--ip-masq"])?;
    let n1 = cluster.node("n1");
    let subnet = peer::read(n1.store(), "n1")?["Subnet"].as_str().unwrap_or_default().replace(".0/24", ".1/24");
    let wanted =
        format!("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n");
    let seen = text(&n1.subnet_file())?;
    ensure!(seen == wanted, "it says\n{seen}not\n{wanted}");
    let mode = std::fs::metadata(n1.subnet_file()).context("look at subnet.env")?.permissions().mode() & 0o777;
    ensure!(mode == 0o644, "its mode is {mode:o}");
    Ok(())
}

fn subnet_env_dual() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::Dual), &net_conf(Stack::Dual, &vxlan()), &[])?;
    let seen = text(&cluster.node("n1").subnet_file())?;
    let keys: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let wanted = [
        "FLANNEL_NETWORK",
        "FLANNEL_SUBNET",
        "FLANNEL_IPV6_NETWORK",
        "FLANNEL_IPV6_SUBNET",
        "FLANNEL_MTU",
        "FLANNEL_IPMASQ",
    ];
    ensure!(keys == wanted, "it says\n{seen}");
    ensure!(seen.contains("FLANNEL_IPV6_NETWORK=fd00:10:244::/56\n"), "it says\n{seen}");
    ensure!(seen.contains("::1/64\n") && seen.ends_with("FLANNEL_IPMASQ=false\n"), "it says\n{seen}");
    Ok(())
}

fn missing_folder() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let path = fabric.disk().join("a/b/subnet.env");
    let _daemon = fabric.node("n1").start_netd(&["--subnet-file", &path.to_string_lossy()])?;
    let mode = std::fs::metadata(fabric.disk().join("a/b")).context("look at the folder")?.permissions().mode() & 0o777;
    ensure!(path.is_file() && mode == 0o755, "the file is there: {}, its folder's mode is {mode:o}", path.is_file());
    Ok(())
}

fn full_disk() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let folder = fabric.disk().join("small");
    std::fs::create_dir(&folder).context("make a folder")?;
    // Two pages and no more; the mount goes with the suite's mount namespace.
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=8k")).context("mount a small disk")?;
    let filler = folder.join("filler");
    std::fs::write(&filler, vec![0; 8192]).context("fill it")?;
    let daemon = fabric.node("n1").launch_netd(&["--subnet-file", &folder.join("subnet.env").to_string_lossy()])?;
    daemon.await_log("subnet.env", seconds(5))?;
    let left = std::fs::read_dir(&folder).context("list it")?.count();
    ensure!(left <= 2, "half-written files stay on the full disk");
    std::fs::remove_file(&filler).context("make space")?;
    daemon.await_ready()?;
    text(&folder.join("subnet.env")).map(drop)
}

fn deleted() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _daemon = n1.start_netd(&["--iptables-resync", "1"])?;
    let before = text(&n1.subnet_file())?;
    std::fs::remove_file(n1.subnet_file()).context("delete the subnet file")?;
    eventually(seconds(10), "the subnet file is back", || {
        ensure!(text(&n1.subnet_file())? == before, "it is another one");
        Ok(())
    })
}

fn conflist() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let daemon = n1.start_netd(&[])?;
    let names: Vec<String> = std::fs::read_dir(n1.cni_conf_dir())
        .context("list --cni-conf-dir")?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    ensure!(names == ["10-netd.conflist"], "--cni-conf-dir holds {names:?}");
    let list: Value = serde_json::from_str(&text(&n1.cni_conf_dir().join(&names[0]))?).context("parse the conflist")?;
    ensure!(list["plugins"][0]["type"] == "netd" && list["name"].is_string(), "the conflist is {list}");
    daemon.terminate()?;
    ensure!(n1.cni_conf_dir().join(&names[0]).is_file(), "the conflist went with the daemon");
    Ok(())
}

fn together() -> Outcome {
    let mut topology = Topology::one_segment(Stack::V4);
    for name in ["n4", "n5", "n6", "n7", "n8"] {
        topology = topology.with(name, 1);
    }
    let cluster = Cluster::start(&topology, &net_conf(Stack::Dual, &vxlan()), &[])?;
    let mut subnets = std::collections::BTreeSet::new();
    for node in &cluster.fabric.nodes {
        let record = peer::read(node.store(), node.name())?;
        for field in ["Subnet", "IPv6Subnet"] {
            let subnet = record[field].to_string();
            ensure!(subnets.insert(subnet.clone()), "{} has {subnet}, which another has too", node.name());
        }
    }
    Ok(())
}

fn same_subnet() -> Outcome {
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let store = cluster.fabric.store.clone();
    // What it sends by follows its peers, which are learnt after readiness.
    let lasting = || -> Outcome<Value> {
        let mut record = peer::read(&store, "n1")?;
        record["Sends"].take();
        Ok(record)
    };
    let before = lasting()?;
    cluster.take("n1").crash()?;
    cluster.node("n1").namespace().run("ip link del flannel.1")?;
    cluster.resume("n1")?;
    let after = lasting()?;
    ensure!(before == after, "the record was {before} and is {after}");
    Ok(())
}

/// A /26 has four /28; the first one is not given, as in flannel.
fn exhausted() -> Outcome {
    let topology = Topology::one_segment(Stack::V4).with("late", 1);
    let conf = json!({ "Network": "10.3.0.0/26", "SubnetLen": 28, "Backend": vxlan() });
    let cluster = Cluster::start(&topology, &conf, &[])?;
    let late = cluster.node("late");
    let mut daemon = late.launch_netd(&[])?;
    let status = daemon.await_end()?;
    let log = daemon.log();
    ensure!(status.code() == Some(1) && log.contains("10.3.0.0/26"), "{status}: {log}");
    ensure!(kernel::link(late.namespace(), "flannel.1")?.is_none(), "a device was left");
    Ok(())
}

fn outside() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    Peer::vxlan("n1", "10.99.1.0/24", "192.168.1.11", "02:00:00:00:00:11").write(&fabric.store)?;
    let _daemon = fabric.node("n1").start_netd(&[])?;
    let record = peer::read(&fabric.store, "n1")?;
    let subnet = record["Subnet"].as_str().unwrap_or_default();
    ensure!(subnet.starts_with("10.244."), "the lease is {subnet}");
    Ok(())
}

fn liars() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let store = &cluster.fabric.store;
    let mine = peer::read(store, "n1")?["Subnet"].as_str().unwrap_or_default().to_owned();
    Peer::vxlan("liar1", &mine, "192.168.1.80", "02:00:00:00:00:80").write(store)?;
    Peer::vxlan("liar2", "10.244.81.0/24", "192.168.1.11", "02:00:00:00:00:81").write(store)?;
    Peer::vxlan("liar3", "10.99.0.0/24", "192.168.1.82", "02:00:00:00:00:82").write(store)?;
    Peer::vxlan("liar4", "0.0.0.0/0", "192.168.1.83", "02:00:00:00:00:83").write(store)?;
    Peer::vxlan("twin1", "10.244.84.0/24", "192.168.1.84", "02:00:00:00:00:84").write(store)?;
    Peer::vxlan("twin2", "10.244.84.0/24", "192.168.1.85", "02:00:00:00:00:85").write(store)?;
    Peer::vxlan("honest", "10.244.90.0/24", "192.168.1.90", "02:00:00:00:00:90").write(store)?;
    let namespace = cluster.node("n1").namespace();
    eventually(seconds(5), "the honest peer is programmed", || {
        let fdb = kernel::fdb(namespace)?;
        ensure!(fdb.iter().any(|(mac, _)| mac == "02:00:00:00:00:90"), "the FDB is {fdb:?}");
        let twins = fdb.iter().filter(|(mac, _)| mac.ends_with(":84") || mac.ends_with(":85")).count();
        ensure!(twins <= 1, "both twins are programmed: {fdb:?}");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))?;
    let fdb = kernel::fdb(namespace)?;
    let lies = fdb.iter().find(|(mac, _)| ["80", "81", "82", "83"].iter().any(|end| mac.ends_with(&format!(":{end}"))));
    ensure!(lies.is_none(), "a liar is programmed: {lies:?}");
    for name in ["liar1", "liar2", "liar3", "liar4", "twin"] {
        cluster.daemon("n1").await_log(name, seconds(5))?;
    }
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    cluster.talk(&a, &c)
}

fn garbage() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let store = &cluster.fabric.store;
    peer::write(store, "broken", "{ \"Subnet\": \"10.244.8")?;
    std::fs::write(store.join("nodes/README"), "not a node").context("write a foreign file")?;
    cluster.daemon("n1").await_log("broken", seconds(5))?;
    Peer::vxlan("honest", "10.244.90.0/24", "192.168.1.90", "02:00:00:00:00:90").write(store)?;
    let programmed = |wanted: &str| {
        eventually(seconds(5), "a good record is programmed", || {
            let fdb = kernel::fdb(cluster.node("n1").namespace())?;
            ensure!(fdb.iter().any(|(mac, _)| mac == wanted), "the FDB is {fdb:?}");
            Ok(())
        })
        .map_err(|failure| cluster.with_logs(failure))
    };
    programmed("02:00:00:00:00:90")?;
    let log = cluster.daemon("n1").log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("broken")).collect();
    ensure!(lines.len() == 1, "it was logged {} times:\n{}", lines.len(), lines.join("\n"));
    Peer::vxlan("broken", "10.244.91.0/24", "192.168.1.91", "02:00:00:00:00:91").write(store)?;
    programmed("02:00:00:00:00:91")
}

fn vanished() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    let aside = cluster.fabric.disk().join("aside");
    std::fs::rename(&cluster.fabric.store, &aside).context("take the store away")?;
    cluster.daemon("n1").await_log(&cluster.fabric.store.to_string_lossy(), seconds(15))?;
    cluster.talk(&a, &c)?;
    std::fs::rename(&aside, &cluster.fabric.store).context("bring the store back")?;
    Peer::vxlan("new", "10.244.90.0/24", "192.168.1.90", "02:00:00:00:00:90").write(&cluster.fabric.store)?;
    eventually(seconds(15), "netd to follow the store again", || {
        let route = kernel::route(cluster.node("n1").namespace(), Family::V4, "10.244.90.0/24")?;
        ensure!(route.is_some(), "the new peer has no route");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))?;
    cluster.talk(&a, &c)
}
