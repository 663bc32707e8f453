//! What a node believes of another node's record: nothing that harms a third one, and what it refuses it names.

use std::net::{IpAddr, UdpSocket};

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::etcd::{Door, Etcd};
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Failure, Outcome, Peer, Pod, Sniffer, Stack, ensure, eventually, flow, kernel, net_conf, seconds,
};
use serde_json::{Value, json};

use crate::hostile_bed::{
    Bed, await_ready, backends, fabric, receives, refuses, said, sends, status, stranger, sysctl, vxlan,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, pods) in [("IPv4", Stack::V4), ("dual", Stack::Dual)] {
        let name = format!("a peer that says it has another's hardware address gets none of its packets/{name}");
        trials.push(test(name, move || others_mac(pods)));
    }
    trials.push(test("a peer that says it has this node's hardware address makes no loop", own_mac));
    for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"] {
        let name = format!("a peer with the hardware address {mac} is refused and the node stays ready");
        trials.push(test(name, move || no_mac(mac)));
    }
    trials.push(test("a peer that sends by a busy port leaves the node ready", busy_port));
    trials.push(test("a peer opens no ports on other nodes and loosens no filter", ports));
    trials.push(test("the only peer opens no ports on a node that joins", || joins(1)));
    trials.push(test("three peers that agree open no ports on a node that joins", || joins(3)));
    trials.push(test("a peer that sends by many ports costs a change of the backend no packet", crowded));
    for (name, backend) in backends() {
        for (families, stack) in [("IPv4", Stack::V4), ("dual", Stack::Dual)] {
            for (case, of_case) in NODE_ADDRESSES {
                let backend = backend.clone();
                trials.push(test(format!("{case}/{name}/{families}"), move || of_case(stack, &backend)));
            }
        }
        let again = backend.clone();
        trials.push(test(format!("addresses that no other node can have are refused/{name}"), move || ends(&backend)));
        let taken = "a later record with another's subnet does not win after a restart";
        trials.push(test(format!("{taken}/{name}"), move || later(&again)));
    }
    trials.push(test("IPv6 addresses that no other node can have are refused", ends_v6));
    trials.push(test("a later record with another's hardware address does not win after a restart", later_mac));
    trials.push(test("a subnet of another size than SubnetLen is refused", sizes));
    trials.push(test("a record of the whole network keeps no new node from a subnet", whole_network));
    trials.push(test("a key of etcd that names another node does not move that node", foreign_key));
    trials.push(test("an operation that the kernel refuses is a problem of that peer", refused_operation));
    trials
}

type OfBackend = fn(Stack, &Value) -> Outcome;

const NODE_ADDRESSES: [(&str, OfBackend); 2] = [
    ("a host that a record names sees the node's own address", named_host),
    ("a pod reaches another node's own address", node_address),
];

/// A host without a route to pods answers them before and after a record names the host as a node.
fn named_host(stack: Stack, backend: &Value) -> Outcome {
    let bed = Bed::start(stack, backend, &["host"])?;
    let host = bed.cluster.node("host");
    let sees_n1 = |when: &str| -> Outcome {
        for (family, address) in host.addresses().iter() {
            let seen = flow::tcp(bed.a.namespace(), host.namespace(), *address)
                .map_err(|failure| bed.cluster.with_logs(failure))?;
            let own = bed.node().address(family);
            ensure!(seen == own, "{when}, the host saw {seen}, and n1 is {own}");
        }
        Ok(())
    };
    sees_n1("before the record")?;
    let mut liar = stranger("liar", 66);
    if stack == Stack::Dual {
        liar = dual(liar, 66).set("PublicIPv6", host.address(Family::V6).to_string());
    }
    let liar = in_words_of(backend, liar).set("PublicIP", host.address(Family::V4).to_string());
    bed.write(&liar)?;
    netd_tests::node::routed(bed.node(), "10.244.66.0/24", true)?;
    sees_n1("with the record")?;
    bed.cluster.talk(&bed.a, &bed.b)
}

/// A pod's packets reach a node's own address from the address of the pod's node.
fn node_address(stack: Stack, backend: &Value) -> Outcome {
    let bed = Bed::start(stack, backend, &[])?;
    for (from, own, to) in [(&bed.a, "n1", "n2"), (&bed.b, "n2", "n1")] {
        for (family, address) in bed.cluster.node(to).addresses().iter() {
            flow::ping(from.namespace(), *address).map_err(|failure| bed.cluster.with_logs(failure))?;
            let seen = flow::tcp(from.namespace(), bed.cluster.node(to).namespace(), *address)?;
            let expected = bed.cluster.node(own).address(family);
            ensure!(seen == expected, "{to} saw {seen}, and {own} is {expected}");
        }
    }
    Ok(())
}

/// A record of a node that is not there, as a node with this backend would write it.
fn in_words_of(backend: &Value, peer: Peer) -> Peer {
    if backend["Type"] == "vxlan" {
        let tunnel = json!({ "Type": "vxlan", "VNI": 1, "Port": 8472, "VtepMAC": "02:00:00:00:03:01" });
        let both = json!([tunnel, { "Type": "host-gw" }]);
        return if backend["DirectRouting"] == true { peer.set("Receives", both) } else { peer };
    }
    let plain = json!([{ "Type": "host-gw" }]);
    peer.set("BackendType", "host-gw")
        .set("BackendData", Value::Null)
        .set("Receives", plain.clone())
        .set("Sends", plain)
}

fn others_mac(pods: Stack) -> Outcome {
    let bed = Bed::start(pods, &vxlan(), &[])?;
    let store = &bed.cluster.fabric.store;
    let n2 = netd_tests::peer::read(store, "n2")?;
    let mac = n2["BackendData"]["VtepMAC"].as_str().context("n2 has a hardware address")?;
    let mut liar = receives(stranger("liar", 66), mac);
    if pods == Stack::Dual {
        let v6_mac = &n2["BackendV6Data"]["VtepMAC"];
        let entry =
            json!({ "Type": "vxlan", "VNI": 1, "Port": 8472, "VtepMAC": "02:00:00:00:02:42", "VtepV6MAC": v6_mac });
        liar = dual(stranger("liar", 66), 66).set("Receives", json!([entry]));
    }
    let before = kernel::fdb(bed.n1())?;
    bed.nothing_lost(|| {
        bed.write(&liar)?;
        bed.refused("liar", &["n2"])?;
        let output = bed.node().run_netd("plan", &["--ip-masq"])?;
        ensure!(output.status.code() == Some(0), "what the plan prints the daemon does not do: {}", said(&output));
        liar.remove(store)?;
        bed.caught_up()?;
        let after = kernel::fdb(bed.n1())?;
        ensure!(after == before, "n2's forwarding entries were {before:?} and are {after:?}");
        Ok(())
    })
}

fn own_mac() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let own = netd_tests::peer::read(&bed.cluster.fabric.store, "n1")?;
    let mac = own["BackendData"]["VtepMAC"].as_str().context("n1 has a hardware address")?;
    // An end that is this node's too, so that what is sent comes back.
    bed.n1().ip("address add 192.168.1.66/24 dev eth0")?;
    bed.write(&receives(stranger("liar", 66), mac))?;
    bed.caught_up()?;
    let target: IpAddr = [10, 244, 66, 5].into();
    let sniffer = Sniffer::start(bed.n1())?;
    let output =
        bed.a.namespace().output(std::process::Command::new("ping").args(["-c", "1", "-W", "0.5", "10.244.66.5"]))?;
    ensure!(!output.status.success(), "nobody has {target}");
    let passed = sniffer.seen().iter().filter(|packet| packet.destination == target).count();
    ensure!(passed > 0, "the request was not seen");
    ensure!(passed < 8, "one request made {passed} packets");
    bed.write(&receives(stranger("other", 67), mac))?;
    bed.refused("other", &[mac])
}

fn no_mac(mac: &'static str) -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    bed.nothing_lost(|| {
        bed.write(&receives(stranger("liar", 66), mac))?;
        bed.refused("liar", &[mac])
    })
}

fn busy_port() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let _taken = bed.n1().within(|| UdpSocket::bind("0.0.0.0:4500"))?.context("take a port")?;
    bed.nothing_lost(|| {
        bed.write(&stranger("liar", 66).set("Sends", json!([sends(4500)])))?;
        bed.caught_up()?;
        await_ready(bed.node())
    })
}

fn ports() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    for device in ["eth0", "flannel.1"] {
        bed.n1().sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "1")?;
    }
    let entries: Vec<Value> = [53, 123, 443].map(sends).into();
    bed.write(&stranger("liar", 66).set("Sends", entries))?;
    bed.caught_up()?;
    let devices: Vec<String> = kernel::vxlans(bed.n1())?.into_iter().map(|(name, _)| name).collect();
    ensure!(devices == ["flannel.1"], "n1 has the devices {devices:?}");
    for device in ["eth0", "flannel.1"] {
        let filter = sysctl(bed.n1(), &format!("net/ipv4/conf/{device}/rp_filter"))?;
        ensure!(filter == "1", "the filter of {device} is {filter}");
    }
    Ok(())
}

/// A node that joins has no former configuration, whatever all its peers say.
fn joins(peers: u8) -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let ports = |mac: String| {
        let of_port = |port: u16| json!({ "Type": "vxlan", "VNI": 1, "Port": port, "VtepMAC": mac });
        json!([of_port(8472), of_port(4500)])
    };
    let numbers = || 66..66 + peers;
    for n in numbers() {
        let liar = stranger(&format!("liar-{n}"), n).set("Receives", ports(format!("02:00:00:00:02:{n:02x}")));
        liar.set("Sends", json!([sends(8472), sends(4500)])).write(&fabric.store)?;
    }
    let n1 = fabric.node("n1");
    let _daemon = n1.start_netd(&[])?;
    numbers().try_for_each(|n| netd_tests::node::routed(n1, &format!("10.244.{n}.0/24"), true))?;
    let devices: Vec<String> = kernel::vxlans(n1.namespace())?.into_iter().map(|(name, _)| name).collect();
    ensure!(devices == ["flannel.1"], "n1 has the devices {devices:?}");
    let received = netd_tests::peer::read(&fabric.store, "n1")?["Receives"].take();
    ensure!(received.as_array().is_some_and(|all| all.len() == 1), "n1 receives {received}");
    Ok(())
}

fn crowded() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let entries: Vec<Value> = [53, 123, 443, 500, 1900].map(sends).into();
    bed.write(&stranger("liar", 66).set("Sends", entries))?;
    bed.caught_up()?;
    bed.nothing_lost(|| {
        let other = net_conf(Stack::V4, &json!({ "Type": "vxlan", "Port": 8999 }));
        bed.cluster.fabric.write_net_conf(&other)?;
        // The liar itself never changes, so the former tunnel stays.
        eventually(seconds(20), "both nodes send by the new tunnel", || {
            for (name, other) in [("n1", "n2"), ("n2", "n1")] {
                let node = bed.cluster.node(name).namespace();
                let devices = kernel::vxlans(node)?;
                let new = devices.iter().find(|(_, data)| data["port"] == 8999).context("no new tunnel")?;
                let route = kernel::route(node, Family::V4, &bed.record(other, "Subnet")?)?.context("no route")?;
                ensure!(route["dev"] == new.0, "{name} sends by {}", route["dev"]);
            }
            Ok(())
        })
    })
}

fn ends(backend: &Value) -> Outcome {
    let bed = Bed::start(Stack::V4, backend, &[])?;
    bed.n1().ip("address add 192.168.1.99/24 dev eth0")?;
    let addresses = [
        "255.255.255.255",
        "192.168.1.255",
        "192.168.1.0",
        "240.0.0.1",
        "169.254.169.254",
        "192.168.1.99",
        "192.168.1.12",
    ];
    bed.nothing_lost(|| {
        for (n, address) in (100_u8..).zip(addresses) {
            let liar = stranger(&format!("liar{n}"), n).set("PublicIP", address);
            bed.write(&in_words_of(backend, liar))?;
        }
        all_refused(&bed, &addresses)
    })
}

fn ends_v6() -> Outcome {
    let bed = Bed::start(Stack::Dual, &vxlan(), &[])?;
    // A deprecated one is nobody's choice for the node's own.
    bed.n1().ip("address add fd00:a:1::99/64 dev eth0 nodad preferred_lft 0 valid_lft forever")?;
    let addresses = ["ff02::1", "ff0e::1", "fe80::12", "::1", "::ffff:192.168.1.12", "fd00:a:1::99", "fd00:a:1::12"];
    bed.nothing_lost(|| {
        for (n, address) in (100_u8..).zip(addresses) {
            let liar = dual(stranger(&format!("liar{n}"), n), n);
            bed.write(&liar.set("PublicIPv6", address))?;
        }
        all_refused(&bed, &addresses)
    })
}

/// The same with an IPv6 subnet, an address and a tunnel end over IPv6.
fn dual(peer: Peer, n: u8) -> Peer {
    let mac = format!("02:00:00:00:06:{n:02x}");
    let entry = json!({
        "Type": "vxlan", "VNI": 1, "Port": 8472, "VtepMAC": format!("02:00:00:00:02:{n:02x}"), "VtepV6MAC": mac,
    });
    let peer = peer.set("IPv6Subnet", format!("fd00:10:244:{n:x}::/64")).set("PublicIPv6", format!("fd00:a:1::{n}"));
    peer.set("BackendV6Data", json!({ "VNI": 1, "VtepMAC": mac })).set("Receives", json!([entry]))
}

/// Waits until each of the records `liar100` and so on is refused for its address.
fn all_refused(bed: &Bed, addresses: &[&str]) -> Outcome {
    eventually(seconds(5), "each of them is named", || {
        let names = (100_u8..).zip(addresses);
        let believed = names.filter(|(n, address)| refuses(bed.node(), &format!("liar{n}"), &[address]).is_err());
        let believed: Vec<&str> = believed.map(|(_, address)| *address).collect();
        ensure!(believed.is_empty(), "{believed:?} are believed, or the node is not ready");
        Ok(())
    })
}

fn sizes() -> Outcome {
    let bed = Bed::start(Stack::Dual, &vxlan(), &[])?;
    let cases = [
        ("half", "Subnet", "10.244.128.0/17", "/24"),
        ("small", "Subnet", "10.244.66.0/28", "/24"),
        ("wide", "IPv6Subnet", "fd00:10:244:80::/57", "/64"),
        ("narrow", "IPv6Subnet", "fd00:10:244:42::/80", "/64"),
    ];
    for (name, field, subnet, length) in cases {
        let record = dual(stranger(name, 66), 66).set(field, subnet);
        bed.write(&record)?;
        bed.refused(name, &[subnet, length])?;
        record.remove(&bed.cluster.fabric.store)?;
    }
    Ok(())
}

fn whole_network() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &["late"])?;
    bed.write(&stranger("all", 66).set("Subnet", "10.244.0.0/16"))?;
    bed.refused("all", &["10.244.0.0/16"])?;
    let late = bed.cluster.node("late");
    let _daemon = late.start_netd(&["--ip-masq"])?;
    let pod = Pod::add(late, "c")?;
    bed.cluster.settle(&pod, &bed.b)
}

/// Writes a record, ends netd on n1 as a crash would and starts it again; fails where a packet is lost meanwhile.
fn lies_over_restart(bed: &mut Bed, record: &Peer) -> Outcome {
    let streams = bed.streams()?;
    bed.write(record)?;
    bed.caught_up()?;
    bed.cluster.take("n1").crash()?;
    bed.cluster.resume("n1")?;
    bed.caught_up()?;
    let lost: Outcome = streams.into_iter().try_for_each(flow::Stream::nothing_lost);
    lost.map_err(|failure| bed.cluster.with_logs(failure))?;
    bed.refused("aaa", &["n2"])
}

fn later(backend: &Value) -> Outcome {
    let mut bed = Bed::start(Stack::V4, backend, &[])?;
    let record = stranger("aaa", 66).set("Subnet", bed.record("n2", "Subnet")?);
    lies_over_restart(&mut bed, &in_words_of(backend, record))
}

fn later_mac() -> Outcome {
    let mut bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let n2 = netd_tests::peer::read(&bed.cluster.fabric.store, "n2")?;
    let mac = n2["BackendData"]["VtepMAC"].clone();
    // The same in both places where a record may have it.
    let record = receives(stranger("aaa", 66), mac.as_str().unwrap_or_default());
    lies_over_restart(&mut bed, &record.set("BackendData", json!({ "VNI": 1, "VtepMAC": mac })))
}

fn foreign_key() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &["etcd"])?;
    let machine = |of: &Cluster| of.node("etcd").address(Family::V4);
    let etcd = Etcd::start(fabric.node("etcd"), fabric.disk(), Door::Open)?;
    etcd.put(fabric.node("etcd"), "config", &net_conf(Stack::V4, &vxlan()).to_string())?;
    let bed = Bed::on(fabric, &["--ip-masq", "--etcd-endpoints=http://192.168.1.13:2379"])?;
    ensure!(machine(&bed.cluster) == IpAddr::from([192, 168, 1, 13]), "etcd is elsewhere");
    let n2 = kernel::fdb(bed.n1())?;
    bed.nothing_lost(|| {
        let value = r#"{"PublicIP":"192.168.1.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:02:4d"},"Node":"n2"}"#;
        let machine = bed.cluster.node("etcd");
        etcd.put(machine, "subnets/10.244.77.0-24", value)?;
        // One that anybody believes comes behind it.
        etcd.put(machine, "subnets/10.244.78.0-24", &value.replace("77", "78").replace("4d", "4e").replace("n2", "n9"))?;
        netd_tests::node::routed(bed.node(), "10.244.78.0/24", true)?;
        let after = kernel::fdb(bed.n1())?;
        ensure!(n2.iter().all(|entry| after.contains(entry)), "the entries for n2 were {n2:?} and are {after:?}");
        let seen = status(bed.node())?;
        let named = seen["leftOut"].to_string() + &seen["problems"].to_string();
        ensure!(named.contains("10.244.77.0"), "nothing reports the key: {named}");
        Ok(())
    })
}

fn refused_operation() -> Outcome {
    let bed = Bed::start(Stack::V4, &json!({ "Type": "host-gw" }), &[])?;
    // The kernel takes no route by an address that it broadcasts to.
    bed.n1().run("ip route add broadcast 192.168.1.66 dev eth0 table local")?;
    bed.nothing_lost(|| {
        bed.write(&in_words_of(&json!({ "Type": "host-gw" }), stranger("odd", 66)))?;
        eventually(seconds(5), "the problem of one peer is named", || {
            let seen = status(bed.node())?;
            let named = seen["leftOut"]["odd"].is_string() || seen["problems"].to_string().contains("odd");
            ensure!(named && seen["ready"] == true, "ready is {}: {}", seen["ready"], seen["problems"]);
            Ok(())
        })
        .map_err(|failure: Failure| bed.cluster.with_logs(failure))
    })?;
    tunnel_free(&bed)
}

/// The other peer's route is there.
fn tunnel_free(bed: &Bed) -> Outcome {
    netd_tests::node::routed(bed.node(), &bed.record("n2", "Subnet")?, true)
}
