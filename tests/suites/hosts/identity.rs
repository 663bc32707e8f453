//! Which node is which: names, addresses and subnets that two claim.

use std::os::unix::fs::MetadataExt;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Namespace, Outcome, Pod, Snapshot, Topology, ensure, eventually, kernel, peer, seconds,
};
use serde_json::{Value, json};

use super::bed::{
    Bed, EACH, EACH_DUAL, HOST_GW, Network, VXLAN, VXLAN_DUAL, awaits_problem, in_each, nth, reaches, status,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(in_each(&EACH, "of two machines with one name the first says so and does not fight", twin));
    trials.extend(in_each(&EACH_DUAL, "a node with another name goes on with its subnet", renamed));
    for inside in INSIDE {
        trials.push(test(format!("a node's address inside the pods' network is refused/{}", inside.name), move || {
            refused(inside)
        }));
    }
    for (name, script) in OTHERS {
        trials.push(test(format!("no subnet is taken that is another device's by its {name}"), move || taken(script)));
    }
    trials.extend(in_each(&EACH_DUAL, "packets to a subnet that no node has end here", |network| nobody(network, &[])));
    trials.extend(in_each(&[VXLAN], "--ip-blackhole-route is taken", |network| {
        nobody(network, &["--ip-blackhole-route"])
    }));
    trials.extend(in_each(&EACH_DUAL, "packets to a node without pods end there", no_pods));
    trials
}

/// The machine that came second has the record. Nothing tells it from a node that has got another address.
fn twin(network: &Network) -> Outcome {
    let mut topology = Topology::one_segment(network.stack);
    topology.machines.truncate(2);
    let bed = Bed::on(network.built(&topology.with("twin", 1))?, &[])?;
    let twin = bed.cluster.node("twin");
    let as_n1 = ["--ip-masq", "--node-name", "n1"];
    let daemon = twin.start_netd(&as_n1)?;
    awaits_problem(bed.n1(), &["n1", "192.168.1.13"])?;
    let findings = Value::from(bed.doctor()?);
    ensure!(findings.to_string().contains("192.168.1.13"), "the doctor on n1 says {findings}");
    let file = peer::file(&bed.cluster.fabric.store, "n1");
    // A file is written by putting another in its place.
    let number = || std::fs::metadata(&file).map(|file| file.ino()).context("look at n1's record");
    let before = number()?;
    for node in [bed.n1(), bed.n2(), twin] {
        status(node)?;
    }
    bed.has_seen_all()?;
    ensure!(number()? == before, "n1's record is written again and again");
    let record = peer::read(&bed.cluster.fabric.store, "n1")?;
    ensure!(record["PublicIP"] == "192.168.1.13", "n1's record is {record}");
    let seen = status(twin)?;
    ensure!(seen["ready"] == true, "the second machine is not ready: {seen:#}");
    let pod = Pod::add(twin, "pod")?;
    reaches(&bed.p2, &pod).map_err(|failure| bed.cluster.with_logs(failure))?;

    // The twin leaves, and n1 is n1 again.
    pod.delete()?;
    daemon.terminate()?;
    let output = twin.run_netd("cleanup", &as_n1)?;
    ensure!(output.status.success(), "netd cleanup ends with {}", output.status);
    eventually(seconds(10), "n1 is ready again", || {
        let seen = status(bed.n1())?;
        ensure!(seen["ready"] == true, "{seen:#}");
        Ok(())
    })?;
    bed.talk()
}

/// As when a host gets another name: its address and its files are the former ones.
fn renamed(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let traffic = bed.traffic()?;
    bed.cluster.take("n1").terminate()?;
    let _daemon = bed.n1().start_netd(&["--ip-masq", "--node-name", "n9"])?;
    let store = &bed.cluster.fabric.store;
    let (record, former) = (peer::read(store, "n9")?, bed.record());
    for field in ["Subnet", "IPv6Subnet", "PublicIP", "PublicIPv6"] {
        ensure!(record[field] == former[field], "the record was {former} and is {record}");
    }
    ensure!(!peer::file(store, "n1").exists(), "the record of the former name is there");
    eventually(seconds(10), "n2 knows n9, and n1 no more", || {
        let seen = status(bed.n2())?;
        let peers: Vec<&String> = seen["peers"].as_object().into_iter().flat_map(|peers| peers.keys()).collect();
        ensure!(peers == ["n9"] && seen["leftOut"] == json!({}), "n2's status is {seen:#}");
        Ok(())
    })?;
    bed.talk()?;
    traffic.nothing_lost()
}

/// A network that the nodes' own addresses are in.
#[derive(Debug)]
struct Inside {
    name: &'static str,
    network: Network,
    field: &'static str,
    range: &'static str,
    address: &'static str,
}

const INSIDE: &[Inside] = &[
    Inside { name: "vxlan v4", network: VXLAN, field: "Network", range: "192.168.0.0/16", address: "192.168.1.11" },
    Inside { name: "host-gw v4", network: HOST_GW, field: "Network", range: "192.168.0.0/16", address: "192.168.1.11" },
    Inside {
        name: "vxlan v6",
        network: VXLAN_DUAL,
        field: "IPv6Network",
        range: "fd00:a:1::/48",
        address: "fd00:a:1::11",
    },
];

/// Before anything is made or written.
fn refused(inside: &Inside) -> Outcome {
    let fabric = inside.network.fabric()?;
    let mut conf = inside.network.conf();
    conf[inside.field] = json!(inside.range);
    fabric.write_net_conf(&conf)?;
    let n1 = fabric.node("n1");
    n1.await_interface()?;
    let before = Snapshot::take(n1.namespace(), &[n1.store().join("nodes")])?;
    let mut daemon = n1.launch_netd(&["--ip-masq"])?;
    ensure!(daemon.await_ready().is_err(), "netd is ready");
    let (end, log) = (daemon.await_end()?, daemon.log());
    ensure!(end.code() == Some(1), "netd ends with {end}: {log}");
    let missing: Vec<&str> =
        [inside.field, inside.range, inside.address].into_iter().filter(|word| !log.contains(word)).collect();
    ensure!(missing.is_empty(), "{missing:?} is not in {log}");
    before.same_as(&Snapshot::take(n1.namespace(), &[n1.store().join("nodes")])?)
}

/// What another device of each node has of the pods' networks: their lower halves, in which netd looks for a subnet first.
const OTHERS: [(&str, &str); 2] = [
    ("addresses", "ip address add 10.244.0.1/17 dev eth1; ip address add fd00:10:244::1/57 dev eth1 nodad"),
    ("routes", "ip route add 10.244.0.0/17 dev eth1; ip -6 route add fd00:10:244::/57 dev eth1"),
];

fn taken(script: &str) -> Outcome {
    let fabric = VXLAN_DUAL.fabric()?;
    for name in ["n1", "n2"] {
        fabric.plug(name, "eth1")?;
        fabric.node(name).namespace().shell(script)?;
    }
    let mut bed = Bed::begin(fabric, &[])?;
    for name in ["n1", "n2"] {
        let record = peer::read(&bed.cluster.fabric.store, name)?;
        let part = |field: &str, mark: char, place: usize| {
            record[field].as_str().and_then(|subnet| subnet.split(mark).nth(place)).map(str::to_owned)
        };
        let v4 = part("Subnet", '.', 2).and_then(|number| number.parse::<u8>().ok());
        let v6 = part("IPv6Subnet", ':', 3).and_then(|number| u8::from_str_radix(&number, 16).ok());
        ensure!(v4 > Some(127) && v6 > Some(127), "{name} has a subnet of the other device's: {record}");
    }
    bed.talk()?;
    // netd's own devices are no others.
    bed.restart()?;
    bed.unmoved()
}

/// A router that sends all of the pods' networks to n1, as one does that knows of them.
fn route_back(bed: &Cluster) -> Outcome {
    for (family, address) in bed.node("n1").addresses().iter() {
        let range = if family == Family::V4 { netd_tests::cluster::NETWORK } else { netd_tests::cluster::IPV6_NETWORK };
        bed.fabric.router.run(&format!("ip route add {range} via {address}"))?;
    }
    Ok(())
}

/// The addresses of the pods' networks that no node has.
const NOBODYS: [&str; 2] = ["10.244.250.9", "fd00:10:244:fa::9"];

fn nobody(network: &Network, arguments: &[&str]) -> Outcome {
    let mut bed = Bed::on(network.fabric()?, arguments)?;
    route_back(&bed.cluster)?;
    let traffic = bed.traffic()?;
    let sniffer = bed.cluster.fabric.sniffer(1)?;
    for address in NOBODYS.iter().filter(|address| network.stack.has(family_of(address))) {
        let ask = |from: &Namespace| from.shell(&format!("! ping -n -c 3 -i 0.2 -W 1 {address} 2>&1"));
        let senders: [&Namespace; 2] = [bed.p1.namespace(), bed.n1().namespace()];
        senders.into_iter().try_for_each(|from| ask(from).map(drop))?;
        let left = sniffer.seen().into_iter().filter(|packet| packet.destination.to_string() == **address);
        let left: Vec<String> = left.map(|packet| packet.to_string()).collect();
        ensure!(
            left.is_empty(),
            "6 requests to {address} were seen {} times outside, first {:?}",
            left.len(),
            left.first()
        );
        if arguments.contains(&"--ip-blackhole-route") {
            continue;
        }
        let is_notified = |said: &str| said.to_lowercase().contains("unreachable") || said.contains("No route");
        for from in senders {
            // The kernel counts each such packet against a limit of one a second, also those of which it notifies nobody: three
            // seconds after one it notifies of the next.
            let ask = || from.shell(&format!("! ping -n -c 1 -W 3 {address} 2>&1"));
            eventually(seconds(20), &format!("who sends to {address} is notified"), || {
                let said = ask()?;
                ensure!(is_notified(&said), "it reads {said}");
                Ok(())
            })?;
        }
    }
    traffic.nothing_lost()?;
    bed.unmoved()?;

    bed.cluster.take("n1").terminate()?;
    let (code, said) = bed.verb("cleanup", &[])?;
    ensure!(code == Some(0), "netd cleanup ends with {code:?}: {said}");
    let routes = bed.on_n1("ip route show; ip -6 route show")?;
    let ends = |route: &&str| {
        ["unreachable 10.244", "blackhole 10.244", "unreachable fd00:10", "blackhole fd00:10"]
            .iter()
            .any(|start| route.starts_with(start))
    };
    ensure!(!routes.lines().any(|route| ends(&route)), "cleanup leaves {routes}");
    Ok(())
}

fn family_of(address: &str) -> Family {
    if address.contains(':') { Family::V6 } else { Family::V4 }
}

/// There is no bridge yet, so no connected route. Then there is.
fn no_pods(network: &Network) -> Outcome {
    let cluster = Cluster::on(network.fabric()?, &["--ip-masq"])?;
    route_back(&cluster)?;
    let record = peer::read(&cluster.fabric.store, "n1")?;
    ensure!(kernel::link(cluster.node("n1").namespace(), "cni0")?.is_none(), "n1 has a bridge");
    let sniffer = cluster.fabric.sniffer(1)?;
    for field in ["Subnet", "IPv6Subnet"] {
        let address = nth(record[field].as_str().unwrap_or_default(), "77");
        let answer = cluster.fabric.router.run(&format!("ping -n -c 3 -i 0.2 -W 1 {address}"));
        ensure!(answer.is_err(), "{address} answers: {answer:?}");
        let count = sniffer.seen().into_iter().filter(|packet| packet.destination.to_string() == address).count();
        ensure!(count == 3, "3 requests to {address} were seen {count} times");
    }
    let (p1, p2) = (cluster.pod("n1", "p1")?, cluster.pod("n2", "p2")?);
    cluster.settle(&p1, &p2)?;
    cluster.talk(&p1, &p2)?;
    let address = p1.address(Family::V4)?;
    netd_tests::flow::ping(&cluster.fabric.router, address)
}
