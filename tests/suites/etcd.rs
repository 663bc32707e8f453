//! The store in etcd, against a real etcd: flannel's keys and values, one lease for a node, and all that can happen to etcd.

#[path = "etcd/bed.rs"]
mod bed;
#[path = "etcd/clock.rs"]
mod clock;
#[path = "etcd/entry.rs"]
mod entry;
#[path = "etcd/flannel.rs"]
mod flannel;
#[path = "etcd/trouble.rs"]
mod trouble;
#[path = "etcd/two.rs"]
mod two;

use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::peers::{ETCD, ETCDCTL, FLANNELD};
use netd_tests::suite::{from_the_start, test};
use netd_tests::{Context, Outcome, Stack, Topology, ensure, eventually, kernel, net_conf, peers, seconds, wall_clock};
use serde_json::{Value, json};

use bed::{Bed, ENDPOINT, foreign, key_of, routed, vxlan};

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || peers::prepare(&[ETCD, ETCDCTL, FLANNELD]).and_then(|()| wall_clock::prepare()),
        || {
            let mut trials = vec![
                test("an empty etcd is waited for, and one with a bad configuration", waits),
                test("foreign keys and garbage stop nobody", garbage),
                test("flannel's key and value, and the same again after a restart", same),
                test("flannel's record of this address is taken over", taken_over),
                test(
                    "a node with another name goes on with its subnet, one with another's address does not take it",
                    names,
                ),
                test("of two machines with one name the first says so and does not fight", twin),
                test("the subnet of subnet.env is taken where it is free and suits", previous),
                test("nodes that race for the last subnets get one each/V4", || race(Stack::V4)),
                test("nodes that race for the last subnets get one each/Dual", || race(Stack::Dual)),
                test("a reservation stays without an end", reservation),
                test("a node without IPv4 pods", only_v6),
                test("pods of three nodes talk, also after the backend was changed in etcd", talk),
                test("netd cleanup gives the key and the lease back", cleanup),
            ];
            trials.extend(trouble::trials());
            trials.extend(entry::trials());
            trials.extend(flannel::trials());
            trials.extend(two::trials());
            trials.push(clock::trial());
            trials.push(from_the_start("drift is repaired while etcd hangs for a minute", trouble::hangs));
            trials.push(from_the_start(
                "etcd is out of reach for two minutes, and has other content then",
                trouble::minutes,
            ));
            trials
        },
    )
}

fn waits() -> Outcome {
    let bed = Bed::empty()?;
    let daemon = bed.node("n1").launch_netd(&[ENDPOINT])?;
    daemon.await_log("/coreos.com/network/config", seconds(20))?;
    bed.put("config", r#"{"Network": "10.3.0.0/16", "SubnetLen": 31}"#)?;
    daemon.await_log("correct the network configuration", seconds(20))?;
    bed.put("config", r#"{ "network": "10.3.0.0/16", "backend": { "type": "vxlan" } }"#)?;
    daemon.await_ready()?;
    let (key, _, _) = key_of(&bed.etcd, bed.machine(), 11)?;
    ensure!(key.starts_with("10.3.") && key.ends_with(".0-24"), "its key is {key}");
    Ok(())
}

fn garbage() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    for key in ["10", "10.12.13.300-24", "&2001::-56", "10.12.13.0-24&2001::-56hi", "10.244.7.0-24/more"] {
        bed.put(&format!("subnets/{key}"), &foreign(77))?;
    }
    for (n, value) in
        ["", "{", "null", r#"{"PublicIP":"x"}"#, r#"{"PublicIP":"192.168.1.9","BackendType":"vxlan","BackendData":7}"#]
            .into_iter()
            .enumerate()
    {
        bed.put(&format!("subnets/10.244.{}.0-24", 100 + n), value)?;
    }
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    let daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    routed(bed.node("n1"), "10.244.200.0/24", true)?;
    daemon.await_log("subnets/10.244.101.0-24 is passed over", seconds(10))?;
    bed.put("subnets/10.244.200.0-24", "garbage")?;
    bed.put("subnets/10.244.201.0-24", &foreign(201))?;
    routed(bed.node("n1"), "10.244.201.0/24", true)?;
    routed(bed.node("n1"), "10.244.200.0/24", true)
}

fn same() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let n1 = bed.node("n1");
    let daemon = n1.start_netd(&[ENDPOINT])?;
    let (key, value, lease) = key_of(&bed.etcd, bed.machine(), 11)?;
    let link = kernel::existing_link(n1.namespace(), "flannel.1")?;
    let mac = link["address"].as_str().unwrap_or_default();
    let flannels = format!(
        r#"{{"PublicIP":"192.168.1.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}},"Node":"n1""#
    );
    ensure!(value.starts_with(&flannels), "the value is\n{value}\nand does not begin with\n{flannels}");
    let env = std::fs::read_to_string(n1.subnet_file()).unwrap_or_default();
    ensure!(env.contains(&key.replace(".0-24", ".1/24")), "the key is {key}, but subnet.env has\n{env}");
    let leases = || bed.ctl(&["lease", "list"]);
    let before = leases()?;
    ensure!(before.contains("found 1 leases") && lease != 0, "etcd has {before}, the key's is {lease:x}");
    daemon.terminate()?;
    let _daemon = n1.start_netd(&[ENDPOINT])?;
    eventually(seconds(10), "the key is as it was", || {
        let now = key_of(&bed.etcd, bed.machine(), 11)?;
        ensure!(now == (key.clone(), value.clone(), lease), "it is {now:?}, and was {key} {value} {lease}");
        Ok(())
    })?;
    let after = leases()?;
    ensure!(after == before, "etcd has {after} instead of {before}");
    Ok(())
}

fn taken_over() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let granted = bed.ctl(&["lease", "grant", "86400"])?;
    let lease = granted.split_whitespace().nth(1).unwrap_or_default();
    let record = foreign(11).replace("02:00:00:00:00:0b", "02:00:00:00:aa:0b");
    bed.ctl(&["put", &format!("--lease={lease}"), "/coreos.com/network/subnets/10.244.77.0-24", &record])?;
    let n2 = bed.node("n2").start_netd(&[ENDPOINT])?;
    routed(bed.node("n2"), "10.244.77.0/24", true)?;
    let _n1 = bed.node("n1").start_netd(&[ENDPOINT])?;
    let (key, value, now) = key_of(&bed.etcd, bed.machine(), 11)?;
    ensure!(key == "10.244.77.0-24" && value.contains("02:00:00:00:aa:0b"), "{key} says {value}");
    ensure!(format!("{now:x}") == lease, "the key's lease is {now:x}, and was {lease}");
    ensure!(bed.subnets()?.len() == 2, "etcd has {:?}", bed.subnets()?);
    routed(bed.node("n2"), "10.244.77.0/24", true)?;
    drop(n2);
    Ok(())
}

fn names() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    let (key, _, lease) = key_of(&bed.etcd, bed.machine(), 11)?;
    daemon.terminate()?;
    let _renamed = bed.node("n1").start_netd(&[ENDPOINT, "--node-name", "rack-7"])?;
    let (now, value, kept) = key_of(&bed.etcd, bed.machine(), 11)?;
    ensure!((&now, kept) == (&key, lease) && value.contains(r#""Node":"rack-7""#), "{key} is {now}: {value}");
    let _double = bed.node("n2").start_netd(&[ENDPOINT, "--public-ip=192.168.1.11"])?;
    let keys = bed.subnets()?;
    let owners = |name: &str| keys.iter().filter(|(_, value, _)| value.contains(name)).count();
    ensure!(keys.len() == 2 && owners("rack-7") == 1 && owners("\"n2\"") == 1, "etcd has {keys:?}");
    Ok(())
}

/// The machine that came second has the record. Nothing tells it from a node that has got another address.
fn twin() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let n1 = bed.node("n1");
    // With a peer from the beginning, n1 needs to publish nothing for later ones.
    bed.put("subnets/10.244.77.0-24", &foreign(77))?;
    let _first = n1.start_netd(&[ENDPOINT])?;
    routed(n1, "10.244.77.0/24", true)?;
    let as_n1 = [ENDPOINT, "--node-name", "n1"];
    let twin = bed.node("n2").start_netd(&as_n1)?;
    let document = || -> Outcome<Value> {
        let output = n1.run_netd("status", &[ENDPOINT, "-o", "json"])?;
        serde_json::from_slice(&output.stdout).context("read the status")
    };
    eventually(seconds(20), "n1 says that its name is taken, and is not ready", || {
        let seen = document()?;
        let says = seen["problems"].to_string().contains("192.168.1.12");
        ensure!(says && seen["ready"] == false, "ready: {}, {}", seen["ready"], seen["problems"]);
        Ok(())
    })?;
    let (key, _, _) = key_of(&bed.etcd, bed.machine(), 12)?;
    ensure!(bed.subnets()?.len() == 2, "etcd has {:?}", bed.subnets()?);
    // Both have read all that was before.
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    for node in ["n1", "n2"] {
        routed(bed.node(node), "10.244.200.0/24", true)?;
    }
    let path = format!("/coreos.com/network/subnets/{key}");
    let field = |name: &str| -> Outcome<String> {
        let fields = bed.ctl(&["get", "-w", "fields", &path])?;
        let value = fields.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")));
        value.map(str::to_owned).context(format!("{path} has no {name}: {fields}"))
    };
    let written = field("Version")?;
    bed.put("subnets/10.244.201.0-24", &foreign(201))?;
    for node in ["n1", "n2"] {
        routed(bed.node(node), "10.244.201.0/24", true)?;
    }
    let now = field("Version")?;
    ensure!(now == written, "the record was written again: {written}, then {now}");

    twin.terminate()?;
    let revision = || -> Outcome<u32> { field("Revision")?.parse().context("read a revision") };
    let before = revision()?;
    let output = bed.node("n2").run_netd("cleanup", &as_n1)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually(seconds(20), "n1 is ready again", || {
        let seen = document()?;
        ensure!(seen["ready"] == true, "{}", seen["problems"]);
        Ok(())
    })?;
    key_of(&bed.etcd, bed.machine(), 11)?;
    // The clean-up has taken the key once, and not once more from n1.
    let held = |revision: u32| -> Outcome<bool> {
        Ok(!bed.ctl(&["get", "--keys-only", "--rev", &revision.to_string(), &path])?.trim().is_empty())
    };
    let mut states = (before..=revision()?).map(held).collect::<Outcome<Vec<_>>>()?;
    states.dedup();
    ensure!(states == [true, false, true], "n1's key was there, revision by revision: {states:?}");
    Ok(())
}

fn previous() -> Outcome {
    let bed = Bed::with(&json!({ "Network": "10.3.0.0/16", "Backend": { "Type": "vxlan" } }))?;
    for (node, subnet) in [("n1", "10.3.6.1/24"), ("n2", "10.4.1.1/24"), ("n3", "10.3.6.1/24")] {
        let text =
            format!("FLANNEL_NETWORK=10.3.0.0/16\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n");
        std::fs::write(bed.node(node).subnet_file(), text)
            .map_err(|error| netd_tests::Failure::new(error.to_string()))?;
    }
    let mut daemons = Vec::new();
    for (node, n, wanted) in [("n1", 11, true), ("n2", 12, false), ("n3", 13, false)] {
        daemons.push(bed.node(node).start_netd(&[ENDPOINT])?);
        let (key, _, _) = key_of(&bed.etcd, bed.machine(), n)?;
        ensure!((key == "10.3.6.0-24") == wanted && key.starts_with("10.3."), "{node} has {key}");
    }
    Ok(())
}

fn race(pods: Stack) -> Outcome {
    let names = ["n4", "n5", "n6", "n7"];
    let topology = names.iter().fold(bed::topology(), |topology, name| topology.with(name, 1));
    let bed = Bed::on(&topology)?;
    let mut conf = net_conf(pods, &json!({ "Type": "vxlan" }));
    for (field, value) in [
        ("SubnetMin", "10.244.1.0"),
        ("SubnetMax", "10.244.7.0"),
        ("IPv6SubnetMin", "fd00:10:244:1::"),
        ("IPv6SubnetMax", "fd00:10:244:7::"),
    ] {
        conf[field] = value.into();
    }
    bed.put("config", &conf.to_string())?;
    let (cluster, etcd) = bed.start()?;
    let keys: Vec<String> = etcd.subnets(cluster.node("etcd"))?.into_iter().map(|(key, _, _)| key).collect();
    let halves = |wanted: fn(&str) -> Option<&str>| {
        let mut halves: Vec<String> = keys.iter().filter_map(|key| wanted(key)).map(ToOwned::to_owned).collect();
        halves.sort();
        halves
    };
    let v4: Vec<String> = (1..=7).map(|n| format!("10.244.{n}.0-24")).collect();
    ensure!(halves(|key| key.split('&').next()) == v4, "etcd has {keys:?}");
    if pods == Stack::Dual {
        let v6: Vec<String> = (1..=7).map(|n| format!("fd00:10:244:{n}::-64")).collect();
        ensure!(halves(|key| key.split('&').nth(1)) == v6, "etcd has {keys:?}");
    }
    let leases = etcd.ctl(cluster.node("etcd"), &["lease", "list"])?;
    ensure!(leases.contains("found 7 leases"), "who lost the race left a lease behind: {leases}");
    Ok(())
}

fn reservation() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.put("subnets/10.244.42.0-24", r#"{"PublicIP":"192.168.1.11"}"#)?;
    let n1 = bed.node("n1");
    for _ in 0..2 {
        let daemon = n1.start_netd(&[ENDPOINT])?;
        let (key, value, lease) = key_of(&bed.etcd, bed.machine(), 11)?;
        ensure!(key == "10.244.42.0-24" && lease == 0, "{key} has the lease {lease:x}: {value}");
        ensure!(value.contains(r#""BackendType":"vxlan""#), "it says {value}");
        daemon.terminate()?;
    }
    let output = n1.run_netd("cleanup", &[ENDPOINT])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = bed.subnets()?;
    let wanted = ("10.244.42.0-24".to_owned(), r#"{"PublicIP":"192.168.1.11","PublicIPv6":null}"#.to_owned(), 0);
    ensure!(left == [wanted], "after cleanup etcd has {left:?}");
    Ok(())
}

fn only_v6() -> Outcome {
    let bed = Bed::with(&net_conf(Stack::V6, &json!({ "Type": "vxlan" })))?;
    let _n1 = bed.node("n1").start_netd(&[ENDPOINT])?;
    let _n2 = bed.node("n2").start_netd(&[ENDPOINT])?;
    let (key, value, _) = key_of(&bed.etcd, bed.machine(), 12)?;
    let subnet = key.strip_prefix("0.0.0.0-0&").unwrap_or_default().replace("-64", "/64");
    ensure!(value.contains("BackendV6Data"), "{key} says {value}");
    eventually(seconds(20), "n1 has a route to n2's pods", || {
        ensure!(kernel::route(bed.node("n1").namespace(), Family::V6, &subnet)?.is_some(), "none to {subnet} ({key})");
        Ok(())
    })
}

fn talk() -> Outcome {
    let bed = Bed::on(&Topology::two_segments(Stack::V4).with("etcd", 1))?;
    bed.put("config", &vxlan().to_string())?;
    let (cluster, etcd) = bed.start()?;
    let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?, cluster.pod("n3", "c")?];
    let all = || -> Outcome {
        for from in &pods {
            for to in pods.iter().filter(|to| to.name() != from.name()) {
                cluster.settle(from, to)?;
                cluster.talk(from, to)?;
            }
        }
        Ok(())
    };
    all()?;
    let direct = net_conf(Stack::V4, &json!({ "Type": "vxlan", "DirectRouting": true }));
    etcd.put(cluster.node("etcd"), "config", &direct.to_string())?;
    let (key, _, _) = key_of(&etcd, cluster.node("etcd"), 12)?;
    eventually(seconds(30), "n1 sends to n2 directly", || {
        let route = kernel::route(cluster.node("n1").namespace(), Family::V4, &key.replace('-', "/"))?;
        ensure!(route.as_ref().is_some_and(|route| route["dev"] == "eth0"), "the route is {route:?}");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))?;
    all()
}

fn cleanup() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let daemon = bed.node("n1").start_netd(&[ENDPOINT])?;
    let _n2 = bed.node("n2").start_netd(&[ENDPOINT])?;
    let (key, _, _) = key_of(&bed.etcd, bed.machine(), 11)?;
    routed(bed.node("n2"), &key.replace('-', "/"), true)?;
    daemon.terminate()?;
    let output = bed.node("n1").run_netd("cleanup", &[ENDPOINT])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(bed.subnets()?.len() == 1, "etcd has {:?}", bed.subnets()?);
    let leases = bed.ctl(&["lease", "list"])?;
    ensure!(leases.contains("found 1 leases"), "etcd has {leases}");
    routed(bed.node("n2"), &key.replace('-', "/"), false)
}
