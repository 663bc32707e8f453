//! `netd doctor`: nothing to say of a healthy cluster; each injury is named with its remedy, and the remedy, typed, heals it.

#[path = "doctor/injuries.rs"]
mod injuries;

use std::process::ExitCode;
use std::time::Instant;

use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Failure, Namespace, Outcome, Peer, Stack, Topology, ensure, eventually, net_conf, seconds,
};
use serde_json::{Value, json};

use injuries::{INJURIES, Injury};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        for (name, backend, underlay, pods) in healthy_clusters() {
            trials.push(test(format!("a healthy cluster is well/{name}"), move || healthy(&backend, underlay, pods)));
        }
        for injury in INJURIES {
            trials.push(test(format!("found and healed by the remedy/{}", injury.name), move || injured(injury)));
        }
        trials.push(test("the tunnel's port is blocked on the way", blocked_port));
        trials.push(test("a peer is down", peer_down));
        trials.push(test("a router on the way has a smaller MTU", narrow_router));
        trials.push(test("a link on the way drops what is too big without a word", narrow_link));
        trials.push(test("a device on the way spoils checksums", spoilt_checksums));
        trials.push(test("hundreds of peers that are down cost no more time than one", many_peers));
        trials.push(test("two nodes have one subnet", one_subnet_twice));
        trials.push(test("a node without a lease: the remedy is to start netd", no_lease));
        trials.push(test("a strict filter, and a peer whose answers leave by another device", strict_filter));
        trials.push(test("the table names check, verdict and what to type", table));
        trials.push(test("what it cannot read is an error of its own", no_store));
        trials
    })
}

fn vxlan() -> Value {
    json!({ "Type": "vxlan" })
}

fn healthy_clusters() -> [(&'static str, Value, Stack, Stack); 7] {
    let direct = json!({ "Type": "vxlan", "DirectRouting": true });
    [
        ("vxlan v4", vxlan(), Stack::V4, Stack::V4),
        ("vxlan v6", vxlan(), Stack::V6, Stack::V6),
        ("vxlan dual", vxlan(), Stack::Dual, Stack::Dual),
        ("vxlan dual over v6", vxlan(), Stack::V6, Stack::Dual),
        ("direct dual", direct.clone(), Stack::Dual, Stack::Dual),
        ("direct v4", direct, Stack::V4, Stack::V4),
        ("host-gw dual", json!({ "Type": "host-gw" }), Stack::Dual, Stack::Dual),
    ]
}

/// What `netd doctor` says on a node that is not well: all findings but the good ones.
fn troubles(cluster: &Cluster, node: &str) -> Outcome<Vec<Value>> {
    let output = cluster.node(node).run_netd("doctor", &["-o", "json"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(matches!(code, Some(0 | 2)), "doctor ended with {}: {said}{error}", output.status);
    let findings: Vec<Value> = serde_json::from_str(&said).context(format!("read what doctor printed: {said}"))?;
    let bad: Vec<Value> = findings.into_iter().filter(|finding| finding["verdict"] != "ok").collect();
    ensure!((code == Some(0)) == bad.is_empty(), "exit code {code:?} with {bad:?}");
    Ok(bad)
}

/// Waits until the doctor on a node finds nothing.
fn await_well(cluster: &Cluster, node: &str) -> Outcome {
    eventually(seconds(15), &format!("the doctor on {node} to be content"), || {
        let bad = troubles(cluster, node)?;
        ensure!(bad.is_empty(), "it says {}", Value::from(bad));
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

/// The one finding of a check.
fn trouble(cluster: &Cluster, node: &str, check: &str) -> Outcome<Value> {
    let bad = troubles(cluster, node)?;
    let found = bad.iter().find(|finding| finding["check"] == check).cloned();
    found.context(format!("no finding of {check} among {}", Value::from(bad)))
}

fn text<'v>(finding: &'v Value, field: &str) -> &'v str {
    finding[field].as_str().unwrap_or_default()
}

fn start(backend: &Value, topology: &Topology, pods: Stack) -> Outcome<Cluster> {
    let cluster = Cluster::start(topology, &net_conf(pods, backend), &["--ip-masq"])?;
    // Each node learns of the others after it is ready.
    for node in ["n1", "n2"] {
        await_well(&cluster, node)?;
    }
    Ok(cluster)
}

fn healthy(backend: &Value, underlay: Stack, pods: Stack) -> Outcome {
    let topology =
        if backend["Type"] == "host-gw" { Topology::one_segment(underlay) } else { Topology::two_segments(underlay) };
    let mut cluster = start(backend, &topology, pods)?;
    let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
    cluster.settle(&a, &d)?;
    for node in ["n1", "n2", "n3"] {
        await_well(&cluster, node)?;
    }
    // Nor does it need the daemon.
    cluster.take("n1").terminate()?;
    let bad = troubles(&cluster, "n1")?;
    ensure!(bad.is_empty(), "with the daemon gone it says {}", Value::from(bad));
    Ok(())
}

fn injured(injury: &Injury) -> Outcome {
    let mut cluster = start(&vxlan(), &Topology::one_segment(Stack::Dual), Stack::Dual)?;
    cluster.take("n1").terminate()?;
    let conf = cluster.node("n1").cni_conf_dir();
    let namespace = cluster.node("n1").namespace();
    namespace.shell(&format!("CONF={}\n{}", conf.display(), injury.harm))?;
    let found = trouble(&cluster, "n1", injury.check)?;
    let right = text(&found, "subject") == injury.subject && text(&found, "remedy").contains(injury.remedy);
    ensure!(right, "it says {found}");
    heal(&cluster, namespace)
}

/// Types what the doctor on n1 says until it says nothing more, and starts netd where it says that.
fn heal(cluster: &Cluster, namespace: &Namespace) -> Outcome {
    for _ in 0..4 {
        let bad = troubles(cluster, "n1")?;
        let Some(first) = bad.first() else { return Ok(()) };
        let remedy = text(first, "remedy");
        ensure!(!remedy.is_empty(), "there is nothing to type in {first}");
        if remedy.starts_with("start netd") {
            let _daemon = cluster.node("n1").start_netd(&["--ip-masq"])?;
            return await_well(cluster, "n1");
        }
        namespace.shell(remedy)?;
    }
    let bad = troubles(cluster, "n1")?;
    Err(Failure::new(format!("having typed what it says, it says {}", Value::from(bad))))
}

fn block(namespace: &Namespace, condition: &str) -> Outcome {
    namespace
        .shell(&format!(
            "nft add table ip block
             nft add chain ip block forward '{{ type filter hook forward priority 0; }}'
             nft add rule ip block forward {condition} drop"
        ))
        .map(drop)
}

fn blocked_port() -> Outcome {
    let cluster = start(&vxlan(), &Topology::two_segments(Stack::V4), Stack::V4)?;
    let router = &cluster.fabric.router;
    block(router, "udp dport 8472")?;
    let bad = troubles(&cluster, "n1")?;
    let found = bad.iter().any(|finding| {
        finding["subject"] == "n3" && finding["check"] == "peers" && text(finding, "what").contains("UDP port 8472")
    });
    ensure!(found && bad.len() == 1, "it says {}", Value::from(bad));
    router.run("nft delete table ip block")?;
    await_well(&cluster, "n1")?;

    // The same by the host's own firewall: then it says what to type.
    let n1 = cluster.node("n1").namespace();
    n1.shell(
        "nft add table inet wall
         nft add chain inet wall inbound '{ type filter hook input priority 0; policy drop; }'
         nft add rule inet wall inbound meta l4proto '{ icmp, ipv6-icmp }' accept
         nft add rule inet wall inbound iif lo accept",
    )?;
    let found = trouble(&cluster, "n1", "peers")?;
    let remedy = text(&found, "remedy").lines().next().unwrap_or_default();
    ensure!(remedy == "nft insert rule inet wall inbound udp dport 8472 accept", "it says {found}");
    n1.run(remedy)?;
    let bad = troubles(&cluster, "n1")?;
    ensure!(!bad.iter().any(|finding| finding["check"] == "peers"), "it says {}", Value::from(bad));
    Ok(())
}

fn peer_down() -> Outcome {
    let cluster = start(&vxlan(), &Topology::one_segment(Stack::V4), Stack::V4)?;
    cluster.fabric.segments[0].ip("link set n3 down")?;
    let found = trouble(&cluster, "n1", "peers")?;
    let right = found["subject"] == "n3" && text(&found, "what").contains("down or cut off");
    ensure!(right, "it says {found}");
    cluster.fabric.segments[0].ip("link set n3 up")?;
    await_well(&cluster, "n1")
}

fn narrow_router() -> Outcome {
    for underlay in [Stack::V4, Stack::V6] {
        let cluster = start(&vxlan(), &Topology::two_segments(underlay), Stack::V4)?;
        cluster.fabric.router.ip("link set eth2 mtu 1400")?;
        let found = trouble(&cluster, "n1", "path mtu")?;
        let right = found["subject"] == "n3" && text(&found, "remedy").contains("\"MTU\": 1400");
        ensure!(right, "over {underlay:?} it says {found}");
        cluster.fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan", "MTU": 1400 })))?;
        await_well(&cluster, "n1")?;
    }
    Ok(())
}

fn narrow_link() -> Outcome {
    let cluster = start(&vxlan(), &Topology::one_segment(Stack::V4), Stack::V4)?;
    // A port of a switch: no router that could say so.
    cluster.fabric.segments[0].ip("link set n3 mtu 1400")?;
    let found = trouble(&cluster, "n1", "path mtu")?;
    let right = found["subject"] == "n3" && text(&found, "what").contains("carries packets of 1400 bytes");
    ensure!(right, "it says {found}");
    cluster.fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan", "MTU": 1400 })))?;
    await_well(&cluster, "n1")
}

/// A device that spoils the checksums inside the tunnel is the same as one that drops what has any.
fn spoilt_checksums() -> Outcome {
    let cluster = start(&vxlan(), &Topology::two_segments(Stack::V4), Stack::V4)?;
    let router = &cluster.fabric.router;
    // Behind outer UDP 8 + VXLAN 8 + Ethernet 14: the inner protocol is at byte 9, the checksum 6 into its UDP header.
    block(router, "udp dport 8472 @th,312,8 17 @th,448,16 != 0")?;
    let bad = troubles(&cluster, "n1")?;
    let right = bad.len() == 1
        && bad[0]["check"] == "checksum"
        && text(&bad[0], "remedy").contains("ethtool -K flannel.1 tx-checksum-ip-generic off");
    ensure!(right, "it says {}", Value::from(bad));
    router.run("nft delete table ip block")?;
    await_well(&cluster, "n1")
}

fn many_peers() -> Outcome {
    let cluster = start(&vxlan(), &Topology::one_segment(Stack::V4), Stack::V4)?;
    let down = Peer::vxlan("down", "10.244.240.0/24", "172.20.0.1", "02:00:00:02:00:00");
    down.write(&cluster.fabric.store)?;
    let begun = Instant::now();
    trouble(&cluster, "n1", "peers")?;
    let one = begun.elapsed();
    down.remove(&cluster.fabric.store)?;
    for n in 0..200_u32 {
        let (subnet, public) = (format!("10.244.{}.0/24", 40 + n), format!("172.16.0.{}", n + 1));
        let mac = format!("02:00:00:01:00:{n:02x}");
        Peer::vxlan(&format!("p{n}"), &subnet, &public, &mac).write(&cluster.fabric.store)?;
    }
    let begun = Instant::now();
    let bad = troubles(&cluster, "n1")?;
    let took = begun.elapsed();
    // Some have a subnet that one of the three nodes has taken.
    let found = |finding: &&Value| finding["check"] == "peers" || finding["check"] == "subnets";
    let down = bad.iter().filter(found).count();
    let living = bad.iter().any(|finding| finding["subject"] == "n2" || finding["subject"] == "n3");
    ensure!(down == 200 && !living, "{down} of 200 peers are found to be down; n2 or n3 among them: {living}");
    ensure!(took < one * 20, "200 peers that are down took {took:?}, and one {one:?}");
    Ok(())
}

fn one_subnet_twice() -> Outcome {
    let cluster = start(&vxlan(), &Topology::one_segment(Stack::V4), Stack::V4)?;
    let record = netd_tests::peer::read(&cluster.fabric.store, "n2")?;
    let subnet = record["Subnet"].as_str().unwrap_or_default();
    let twin = Peer::vxlan("z1", subnet, "192.168.1.90", "02:00:00:00:00:90");
    twin.write(&cluster.fabric.store)?;
    let found = trouble(&cluster, "n1", "subnets")?;
    ensure!(found["subject"] == "z1" && text(&found, "what").contains("overlaps"), "it says {found}");
    twin.remove(&cluster.fabric.store)?;
    await_well(&cluster, "n1")
}

fn no_lease() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let cluster = Cluster::on(fabric, &[])?;
    let fresh = cluster.node("n1");
    let output = fresh.run_netd("doctor", &["-o", "json", "--node-name", "n9"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let no_subnet = said.contains("this node has no subnet in the store") && said.contains("start netd on this node");
    ensure!(output.status.code() == Some(2) && no_subnet, "of a node without a record it says {said}");
    let mut command = fresh.netd("doctor", &["-o", "json", "--subnet-file", "/run/none/subnet.env"])?;
    command.env("NODE_NAME", "n1");
    let output = fresh.namespace().output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(2) && said.contains("the file is missing"), "it says {said}");
    ensure!(said.contains("start netd on this node"), "it says {said}");
    Ok(())
}

fn strict_filter() -> Outcome {
    let mut cluster = start(&vxlan(), &Topology::two_segments(Stack::V4), Stack::V4)?;
    cluster.take("n1").terminate()?;
    let n1 = cluster.node("n1").namespace();
    n1.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    for device in ["eth0", "flannel.1"] {
        n1.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "1")?;
    }
    let bad = troubles(&cluster, "n1")?;
    ensure!(bad.is_empty(), "a strict filter harms nobody by itself, but it says {}", Value::from(bad));

    // Answers to n3 would leave by another device, which leads nowhere.
    n1.shell("ip link add other type bridge; ip link set other up; ip route add 192.168.2.0/24 dev other")?;
    let found = trouble(&cluster, "n1", "reverse path")?;
    let right = found["subject"] == "n3" && found["remedy"] == "sysctl -w net/ipv4/conf/eth0/rp_filter=2";
    ensure!(right, "it says {found}");
    n1.run(text(&found, "remedy"))?;
    let bad = troubles(&cluster, "n1")?;
    ensure!(!bad.iter().any(|finding| finding["check"] == "reverse path"), "it says {}", Value::from(bad));
    // `all` counts where it is larger, and 2 is larger than 1.
    n1.sysctl("net/ipv4/conf/eth0/rp_filter", "0")?;
    n1.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    trouble(&cluster, "n1", "reverse path").map(drop)
}

fn table() -> Outcome {
    let mut cluster = start(&vxlan(), &Topology::one_segment(Stack::V4), Stack::V4)?;
    cluster.take("n1").terminate()?;
    let n1 = cluster.node("n1");
    n1.namespace().sysctl("net/ipv4/ip_forward", "0")?;
    let output = n1.run_netd("doctor", &[])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(2), "it ended with {}: {said}", output.status);
    let fault = said.lines().any(|line| line.starts_with("FAULT") && line.contains("forwarding"));
    let typed = said.lines().any(|line| line.trim() == "> sysctl -w net/ipv4/ip_forward=1");
    let well = said.lines().filter(|line| line.starts_with("ok")).count();
    ensure!(fault && typed && well == 14, "it says\n{said}");
    Ok(())
}

fn no_store() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let output = fabric.node("n1").run_netd("doctor", &[])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "it ended with {}: {said}", output.status);
    ensure!(said.contains("net-conf.json"), "it says {said}");
    Ok(())
}
