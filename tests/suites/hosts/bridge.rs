//! The pods' bridge, as people and programs change it: netd keeps what the plugin gave it.

use std::collections::BTreeSet;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::namespace::printed;
use netd_tests::suite::test;
use netd_tests::{
    Context, Namespace, Outcome, Pod, Topology, ensure, eventually, flow, kernel, net_conf, plugin, seconds,
};
use serde_json::{Value, json};

use super::bed::{Bed, DIRECT_DUAL, EACH, EACH_DUAL, Network, VXLAN, VXLAN_DUAL, all_of, awaits_problem, in_each};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for harm in HARMS {
        for network in EACH_DUAL {
            trials.push(test(format!("{}, and netd puts it right/{}", harm.name, network.name), move || {
                heals(&network, harm)
            }));
        }
    }
    trials.extend(in_each(&EACH_DUAL, "a bridge with a name of the operator's is kept, found and removed", other_name));
    trials.push(test("plan and doctor find each change of the bridge, and a start puts it right", found));
    trials.extend(in_each(&[VXLAN], "a device that is no bridge in the bridge's place is a problem", no_bridge));
    trials.extend(in_each(&EACH, "new devices forward where the default is not to", hardened));
    trials.extend(in_each(&EACH_DUAL, "pods have IPv6 where new devices have none by default", no_ipv6));
    trials.extend(in_each(
        &[VXLAN, DIRECT_DUAL],
        "a bridge of another plugin that is deleted loses no pod",
        others_bridge,
    ));
    trials.extend(in_each(&EACH_DUAL, "a node's first pod answers over IPv6 at once", first_pod));
    trials.extend(in_each(&EACH, "IPv4 pods are made where the MTU is below 1280", small_mtu));
    trials.push(test("the error of the 1,024th pod says that a bridge has 1,023 ports", too_many));
    trials
}

/// The name of the bridge, where nobody gives it another one.
const USUAL: &str = "cni0";

/// Something that is done to the bridge.
struct Harm {
    name: &'static str,
    script: &'static str,
}

const HARMS: &[Harm] = &[
    Harm { name: "the bridge's addresses are flushed", script: "ip address flush dev cni0" },
    Harm { name: "the bridge is taken down", script: "ip link set cni0 down" },
    Harm { name: "the bridge is taken down and up", script: "ip link set cni0 down; ip link set cni0 up" },
    Harm { name: "the bridge's IPv4 route is deleted", script: "ip route del $SUBNET dev cni0" },
    Harm { name: "the bridge's IPv6 route is deleted", script: "ip -6 route del $SUBNET6 dev cni0" },
    Harm { name: "IPv6 is switched off on the bridge", script: "echo 1 >/proc/sys/net/ipv6/conf/cni0/disable_ipv6" },
    Harm {
        name: "IPv6 is switched off and on on the bridge",
        script: "echo 1 >/proc/sys/net/ipv6/conf/cni0/disable_ipv6
                 echo 0 >/proc/sys/net/ipv6/conf/cni0/disable_ipv6",
    },
    Harm { name: "the bridge does not forward", script: "echo 0 >/proc/sys/net/ipv4/conf/cni0/forwarding" },
    Harm { name: "the bridge gets another hardware address", script: "ip link set cni0 address 02:00:00:00:00:66" },
];

/// What the plugin gave the bridge on n1.
fn bridge(node: &Namespace, name: &str) -> Outcome<BTreeSet<String>> {
    let link = kernel::existing_link(node, name)?;
    let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
    let mut lines = BTreeSet::from([format!("up {up}, hardware address {}, MTU {}", link["address"], link["mtu"])]);
    lines.extend(kernel::addresses(node, name)?.iter().map(|address| format!("address {address}")));
    // Without it the kernel asks for no neighbour when it forwards to a pod.
    let link_local = node.run(&format!("ip -6 address show dev {name} scope link"))?;
    lines.insert(format!("link-local address {}", link_local.contains("fe80:")));
    for flag in ["-4", "-6"] {
        let routes = node.json(&format!("ip -j {flag} route show dev {name}"))?;
        // The link-local one comes and goes with an address that is the kernel's own.
        let ranges = routes.iter().filter_map(|route| route["dst"].as_str()).filter(|range| *range != "fe80::/64");
        lines.extend(ranges.map(|range| format!("route {range}")));
    }
    for (family, key) in [("ipv4", "forwarding"), ("ipv6", "forwarding"), ("ipv6", "disable_ipv6")] {
        let value = node.run(&format!("cat /proc/sys/net/{family}/conf/{name}/{key}"))?;
        lines.insert(format!("{family} {key} {}", value.trim()));
    }
    Ok(lines)
}

/// Fails unless a harm changes the bridge with this name.
fn spoil(bed: &Bed, harm: &Harm, name: &str, before: &BTreeSet<String>) -> Outcome {
    bed.on_n1(&harm.script.replace(USUAL, name))?;
    let after = bridge(bed.n1().namespace(), name)?;
    ensure!(after != *before, "`{}` has done nothing to {before:?}", harm.script);
    Ok(())
}

/// Waits until the bridge is as it was, and all pods talk.
fn whole(bed: &Bed, name: &str, before: &BTreeSet<String>) -> Outcome {
    eventually(seconds(10), "the bridge is as it was", || {
        let now = bridge(bed.n1().namespace(), name)?;
        ensure!(now == *before, "missing: {:?}; new: {:?}", before - &now, &now - before);
        Ok(())
    })
    .map_err(|failure| bed.cluster.with_logs(failure))?;
    bed.talk()?;
    // The node speaks to its own pods by the connected routes.
    bed.p1.addresses().iter().try_for_each(|(_, address)| flow::ping(bed.n1().namespace(), *address))
}

fn heals(network: &Network, harm: &Harm) -> Outcome {
    let bed = network.start()?;
    let before = bridge(bed.n1().namespace(), USUAL)?;
    bed.standing_still(|| spoil(&bed, harm, USUAL, &before))?;
    whole(&bed, USUAL, &before)?;
    bed.unmoved()
}

/// The operator's list of plugins names the bridge.
fn other_name(network: &Network) -> Outcome {
    let name = "br-pods";
    let fabric = network.fabric()?;
    let source = fabric.disk().join("cni-conf.json");
    let plugins = json!([{ "type": "flannel", "delegate": { "bridge": name, "isDefaultGateway": true } }]);
    let list = json!({ "name": "cbr0", "cniVersion": "1.0.0", "plugins": plugins });
    std::fs::write(&source, list.to_string()).context("write a list of plugins")?;
    let mut bed = Bed::on(fabric, &["--cni-conf-source", &source.to_string_lossy()])?;
    let before = bridge(bed.n1().namespace(), name)?;
    for harm in HARMS {
        bed.standing_still(|| spoil(&bed, harm, name, &before))?;
        whole(&bed, name, &before).context(harm.name)?;
    }
    bed.standing_still(|| bed.on_n1(&format!("ip link del {name}")).map(drop))?;
    whole(&bed, name, &before).context("the bridge is deleted")?;
    found_after(&mut bed, &HARMS[0], name)?;
    // What a DHCP client does that takes every interface for its own.
    bed.on_n1(&format!("ip address add 169.254.77.7/16 dev {name}; ip route add default dev {name} metric 204"))?;
    bed.unmoved()?;
    let findings = Value::from(bed.doctor()?).to_string();
    ensure!(findings.contains("default route of metric 204"), "the doctor says {findings}");
    let Bed { p1, mut cluster, .. } = bed;
    cluster.take("n1").terminate()?;
    drop(p1);
    let output = cluster.node("n1").run_netd("cleanup", &[])?;
    printed("netd cleanup", &output)?;
    let left = cluster.node("n1").namespace().run("ip -o link show type bridge")?;
    ensure!(left.is_empty(), "after the clean-up there is {left}");
    Ok(())
}

/// Done while netd is down: the two that look at a node without changing it say so, and the daemon heals it when it starts.
fn found() -> Outcome {
    let mut bed = VXLAN_DUAL.start()?;
    let mut failures = Vec::new();
    for harm in HARMS {
        if let Err(failure) = found_after(&mut bed, harm, USUAL).context(format!("`{}`", harm.script)) {
            failures.push(failure);
            bed = VXLAN_DUAL.start()?;
        }
    }
    all_of(&failures)
}

fn found_after(bed: &mut Bed, harm: &Harm, name: &str) -> Outcome {
    let before = bridge(bed.n1().namespace(), name)?;
    bed.cluster.take("n1").terminate()?;
    spoil(bed, harm, name, &before)?;
    let (code, plan) = bed.verb("plan", &[])?;
    ensure!(code == Some(2) && plan.contains(name), "netd plan ends with {code:?} and says {plan:?}");
    let findings = Value::from(bed.doctor()?);
    ensure!(findings.to_string().contains(name), "the doctor says {findings}");
    bed.cluster.resume("n1")?;
    whole(bed, name, &before)
}

/// Nothing of netd's can be there: netd says so for as long as that lasts.
fn no_bridge(network: &Network) -> Outcome {
    let bed = network.start()?;
    bed.standing_still(|| bed.on_n1("ip link del cni0; ip link add cni0 type veth peer name other0").map(drop))?;
    awaits_problem(bed.n1(), &["cni0"])?;
    let findings = Value::from(bed.doctor()?);
    ensure!(findings.to_string().contains("cni0"), "the doctor says {findings}");
    bed.on_n1("ip link del cni0")?;
    bed.talk()?;
    bed.unmoved()
}

/// The CIS benchmark's advice: forwarding is off for what comes new. A router of the host's own has it on.
fn hardened(network: &Network) -> Outcome {
    let bed = network.start_after(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         echo 0 >/proc/sys/net/ipv4/conf/default/forwarding",
    )?;
    bed.talk()?;
    let traffic = bed.traffic()?;
    let another = bed.cluster.pod("n1", "another")?;
    bed.cluster.talk(&another, &bed.p2)?;
    bed.cluster.talk(&bed.p2, &another)?;
    traffic.nothing_lost()?;
    let default = bed.on_n1("cat /proc/sys/net/ipv4/conf/default/forwarding")?;
    ensure!(default.trim() == "0", "the host's own setting is {default}");
    bed.unmoved()
}

fn no_ipv6(network: &Network) -> Outcome {
    let bed = network.start_after("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")?;
    bed.talk()?;
    let default = bed.on_n1("cat /proc/sys/net/ipv6/conf/default/disable_ipv6")?;
    ensure!(default.trim() == "1", "the host's own setting is {default}");
    bed.unmoved()
}

/// The bridge has a hardware address that netd's plugin would not give it, and the pods know that one.
fn others_bridge(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    fabric
        .node("n1")
        .namespace()
        .shell("ip link add cni0 address 02:00:00:00:00:66 type bridge; ip link set cni0 up")?;
    let bed = Bed::on(fabric, &[])?;
    let (n1, pod) = (bed.n1().namespace(), bed.p1.namespace());
    let mac = kernel::existing_link(n1, "cni0")?["address"].clone();
    ensure!(mac == "02:00:00:00:00:66", "the bridge's hardware address is {mac}");
    // The pod believes what it knows for an hour, so that it does not find out by itself.
    pod.sysctl("net/ipv4/neigh/eth0/base_reachable_time_ms", "3600000")?;
    pod.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", "3600000")?;
    pod.run("ip neigh flush dev eth0")?;
    bed.settled()?;
    bed.standing_still(|| bed.on_n1("ip link del cni0").map(drop))?;
    bed.talk()?;
    bed.unmoved()
}

/// The harness's namespaces do not try addresses, and hosts do.
fn first_pod(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    for name in ["n1", "n2"] {
        fabric.node(name).namespace().sysctl("net/ipv6/conf/default/accept_dad", "1")?;
    }
    let cluster = netd_tests::Cluster::on(fabric, &["--ip-masq"])?;
    let p1 = cluster.pod("n1", "p1")?;
    let n1 = cluster.node("n1").namespace();
    let tentative = n1.run("ip -6 address show dev cni0 tentative")?;
    ensure!(tentative.trim().is_empty(), "the bridge still tries {tentative}");
    ensure!(n1.run("ip -6 address show dev cni0")?.contains("scope link"), "the bridge has no link-local address");
    flow::ping(n1, p1.address(Family::V6)?)?;
    let p2 = cluster.pod("n2", "p2")?;
    cluster.settle(&p1, &p2)?;
    cluster.talk(&p1, &p2)
}

/// The kernel has no IPv6 on such a link. The largest packet passes, and one more byte does not.
fn small_mtu(network: &Network) -> Outcome {
    let mut topology = Topology::one_segment(network.stack).with_mtu(1200);
    topology.machines.truncate(2);
    let bed = Bed::on(network.built(&topology)?, &[])?;
    bed.talk()?;
    let links = bed.p1.namespace().json("ip -j link show dev eth0")?;
    let mtu = links.first().and_then(|link| link["mtu"].as_u64()).context("the pod's interface has an MTU")?;
    let mtu = u32::try_from(mtu).context("read the MTU")?;
    ensure!(mtu <= 1200, "the pod's MTU is {mtu}");
    let to = bed.p2.address(Family::V4)?;
    flow::ping_of(bed.p1.namespace(), to, mtu)?;
    flow::too_big(bed.p1.namespace(), to, mtu + 1)?;
    bed.unmoved()
}

/// The bridge's ports are filled with links that are no pods.
fn too_many() -> Outcome {
    let fabric = VXLAN.fabric()?;
    let mut conf = net_conf(VXLAN.stack, &json!({ "Type": "vxlan" }));
    conf["SubnetLen"] = json!(20);
    fabric.write_net_conf(&conf)?;
    let bed = Bed::on(fabric, &[])?;
    let pair = |number| {
        format!("link add a{number} master cni0 type veth peer name b{number}\nlink set b{number} master cni0")
    };
    let links: Vec<String> = (0..511).map(pair).collect();
    bed.n1().namespace().ip(&links.join("\n"))?;
    let traffic = bed.traffic()?;
    let namespace = Namespace::new("late")?;
    let mut entry = plugin::conf(bed.n1())?;
    entry["cniVersion"] = json!("1.1.0");
    let late = plugin::attachment_by(bed.n1(), "late", &namespace, entry)?;
    let words = "the kernel allows 1023 ports on one bridge";
    for (verb, code) in [("ADD", 11), ("STATUS", 50)] {
        let output = late.call(verb)?;
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let right = said["code"] == code && said["msg"].as_str().is_some_and(|message| message.contains(words));
        ensure!(right, "{verb} ends with {} and says {said}", output.status);
    }
    traffic.nothing_lost()?;
    bed.n1().namespace().run("ip link del a0")?;
    late.succeed("STATUS")?;
    let pod = Pod::add(bed.n1(), "later")?;
    bed.cluster.talk(&pod, &bed.p2)
}
