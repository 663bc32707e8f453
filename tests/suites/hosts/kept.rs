//! What holds today and stays so.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_tests::node::routed;
use netd_tests::suite::test;
use netd_tests::{
    Context, Namespace, Outcome, Topology, ensure, eventually, flow, isolation, kernel, peer, plugin, seconds,
};

use super::bed::{Bed, DIRECT, EACH, EACH_DUAL, HOST_GW_DUAL, Network, VXLAN, VXLAN_DUAL, has_problem, in_each};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(in_each(
        &[VXLAN, DIRECT],
        "the node's own end of a point-to-point address is its address",
        point_to_point,
    ));
    trials.extend(in_each(&EACH_DUAL, "deprecated and temporary IPv6 addresses are not the node's", passing_ipv6));
    trials.extend(in_each(&[VXLAN_DUAL, HOST_GW_DUAL], "a default route of several next hops is one", next_hops));
    trials.extend(in_each(&EACH, "another preferred source leaves the node its recorded address", recorded));
    trials.extend(in_each(&EACH_DUAL, "eth0 becomes a port of a bridge and back", bridged));
    trials.extend(in_each(&EACH, "IPv4 pods talk while an MTU is below 1280", small_mtu));
    trials.push(test("an MTU that leaves IPv6 pods too little is refused", too_small_for_ipv6));
    trials.extend(in_each(&[VXLAN_DUAL], "an MTU that becomes too small is a problem until it is not", smaller_mtu));
    trials.push(test(FEW_INOTIFY, few_inotify));
    trials.extend(in_each(&EACH_DUAL, "an address that is used again at once works at once", used_again));
    trials.extend(in_each(&[VXLAN_DUAL], "a namespace can be /proc/PID/ns/net", namespace_of_process));
    trials.extend(in_each(&EACH_DUAL, "iptables-nft saves and restores netd's rules", saved));
    trials
}

fn point_to_point(network: &Network) -> Outcome {
    let bed = network.start_after(
        "ip address flush dev eth0
         ip address add 192.168.1.11 peer 192.168.1.1/32 dev eth0
         ip route add default via 192.168.1.1",
    )?;
    let seen = &bed.record()["PublicIP"];
    ensure!(seen == "192.168.1.11", "n1 publishes {seen}");
    bed.unmoved()?;
    bed.talk()
}

/// They come before and while netd runs.
fn passing_ipv6(network: &Network) -> Outcome {
    const TEMPORARY: &str = "echo 2 >/proc/sys/net/ipv6/conf/eth0/use_tempaddr
         ip address replace fd00:a:1::11/64 dev eth0 mngtmpaddr
         ip -6 address show dev eth0 temporary | grep -q fd00:a:1:";
    const DEPRECATED: &str = "ip address add fd00:a:1::99/64 dev eth0 nodad preferred_lft 0
         ip -6 address show dev eth0 deprecated | grep -q fd00:a:1::99";
    for (before, after) in [(TEMPORARY, DEPRECATED), (DEPRECATED, TEMPORARY)] {
        let bed = network.start_after(before)?;
        let seen = &bed.record()["PublicIPv6"];
        ensure!(seen == "fd00:a:1::11", "n1 publishes {seen} after {before}");
        let traffic = bed.traffic()?;
        bed.harm(after)?;
        bed.unmoved()?;
        traffic.nothing_lost()?;
        bed.talk()?;
    }
    Ok(())
}

fn next_hops(network: &Network) -> Outcome {
    let bed = network.start_after(
        "ip route replace default nexthop via 192.168.1.1 nexthop via 192.168.1.12
         ip -6 route del default
         ip -6 route add default nexthop via fd00:a:1::1 nexthop via fd00:a:1::12
         ip route show default | grep -q nexthop; ip -6 route show default | grep -q nexthop",
    )?;
    bed.unmoved()?;
    bed.talk()
}

fn recorded(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let traffic = bed.traffic()?;
    bed.harm("ip address add 192.168.1.61/24 dev eth0; ip route replace default via 192.168.1.1 src 192.168.1.61")?;
    bed.unmoved()?;
    bed.restart()?;
    bed.unmoved().context("after a restart")?;
    traffic.nothing_lost()
}

/// As `netplan` and virtual machines' hosts do.
fn bridged(network: &Network) -> Outcome {
    let bed = network.start()?;
    let moved = |from: &str, to: &str| {
        format!(
            "ip address flush dev {from} scope global
             ip link set {to} up
             ip address add 192.168.1.11/24 brd + dev {to}; ip address add fd00:a:1::11/64 dev {to} nodad
             ip route replace default via 192.168.1.1; ip -6 route replace default via fd00:a:1::1"
        )
    };
    bed.harm(&format!(
        "ip link add lan0 address $(ip -o link show dev eth0 | sed 's/.*ether \\([^ ]*\\) .*/\\1/') type bridge
         ip link set eth0 master lan0
         {}",
        moved("eth0", "lan0")
    ))?;
    bed.uses("lan0")?;
    bed.talk()?;
    bed.unmoved()?;
    bed.harm(&format!("ip link set eth0 nomaster\n{}\nip link del lan0", moved("lan0", "eth0")))?;
    bed.uses("eth0")?;
    bed.talk().context("and back")?;
    bed.unmoved().context("and back")
}

/// Pods that are there keep their own MTU, and small packets pass.
fn small_mtu(network: &Network) -> Outcome {
    let bed = network.start()?;
    let traffic = bed.traffic()?;
    bed.harm("ip link set eth0 mtu 1200")?;
    bed.has_seen_all()?;
    bed.talk()?;
    bed.unmoved().context("with the smaller MTU")?;
    bed.on_n1("ip link set eth0 mtu 1500")?;
    bed.talk()?;
    bed.unmoved().context("and back")?;
    traffic.nothing_lost()
}

fn too_small_for_ipv6() -> Outcome {
    let mut topology = Topology::one_segment(VXLAN_DUAL.stack).with_mtu(1300);
    topology.machines.truncate(2);
    let fabric = VXLAN_DUAL.built(&topology)?;
    fabric.node("n1").refuses(&["--ip-masq"], &["eth0", "1300 bytes", "IPv6"])
}

fn smaller_mtu(network: &Network) -> Outcome {
    let bed = network.start()?;
    bed.harm("ip link set eth0 mtu 1300")?;
    has_problem(bed.n1(), &["eth0", "1300 bytes"])?;
    bed.on_n1("ip link set eth0 mtu 1500")?;
    bed.talk()?;
    bed.unmoved()
}

const FEW_INOTIFY: &str = "a node without inotify learns of peers all the same and says so";

/// The limit is one of a user namespace, so it is set in one that others do not share.
fn few_inotify() -> Outcome {
    if !isolation::in_user_namespace(FEW_INOTIFY)? {
        return Ok(());
    }
    std::fs::write("/proc/sys/user/max_inotify_instances", "0").context("limit inotify")?;
    let bed = Bed::begin(VXLAN.fabric()?, &[])?;
    bed.cluster.daemon("n1").await_log("fs.inotify.max_user_instances", seconds(5))?;
    for (node, peer) in [(bed.n1(), "n2"), (bed.n2(), "n1")] {
        let record = peer::read(&bed.cluster.fabric.store, peer)?;
        routed(node, record["Subnet"].as_str().unwrap_or_default(), true)?;
    }
    bed.talk()
}

/// A runtime asks for the address of the pod that has just gone.
fn used_again(network: &Network) -> Outcome {
    let Bed { p1, p2, cluster, .. } = network.start()?;
    let addresses = *p1.addresses();
    let conf = plugin::conf(cluster.node("n1"))?;
    p1.delete()?;
    for name in ["second", "third"] {
        let namespace = Namespace::new(name)?;
        let mut again = plugin::attachment_by(cluster.node("n1"), name, &namespace, conf.clone())?;
        again.conf["runtimeConfig"]["ips"] = addresses.iter().map(|(_, address)| address.to_string()).collect();
        let result = again.succeed("ADD")?;
        for (family, address) in addresses.iter() {
            let other = *p2.addresses().get(family).context("p2 has the family")?;
            flow::all(p2.namespace(), other, &namespace, *address).context(format!("p2 to the {name}"))?;
            flow::all(&namespace, *address, p2.namespace(), other).context(format!("the {name} to p2"))?;
        }
        again.after(&result).succeed("DEL")?;
    }
    Ok(())
}

/// Such as a runtime gives that does not mount namespaces.
fn namespace_of_process(network: &Network) -> Outcome {
    let bed = network.start()?;
    let namespace = Namespace::new("process")?;
    // The number that /proc has for it. The suite's own /proc may be of other numbers.
    let mut command = Command::new("sh");
    command
        .args(["-c", "read number rest </proc/self/stat; echo $number; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = namespace.spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().context("it has an output")?)
        .read_line(&mut line)
        .context("read its number")?;

    let mut attachment = plugin::attachment(bed.n1(), "process", &namespace)?;
    attachment.netns = format!("/proc/{}/ns/net", line.trim()).into();
    let result = attachment.succeed("ADD")?;
    for (_, address) in bed.p2.addresses().iter() {
        flow::ping(&namespace, *address)?;
    }
    let attachment = attachment.after(&result);
    attachment.succeed("CHECK")?;
    attachment.succeed("DEL")?;
    ensure!(kernel::link(&namespace, "eth0")?.is_none(), "the pod's interface is left");
    drop(process.stdin.take());
    process.wait().context("end the process")?;
    bed.unmoved()
}

/// As netfilter-persistent does it: while netd runs, and at a boot before netd.
fn saved(network: &Network) -> Outcome {
    const RESTORED: &str = "iptables-nft-restore <$SAVED.v4; ip6tables-nft-restore <$SAVED.v6";
    // Where forwarding is denied netd has rules in iptables' chains too.
    let mut bed = network.start_after("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP")?;
    let files = format!("SAVED={}", bed.cluster.fabric.disk().join("rules").display());
    // Without counters, and as an operator sees them: both programs note a comment in ways of their own.
    let state = |bed: &Bed| {
        bed.on_n1("iptables-nft-save | grep '^-A'; ip6tables-nft-save | grep '^-A'; nft -s list ruleset inet")
    };
    let same = |bed: &Bed, before: &str| {
        eventually(seconds(10), "the rules are as they were", || {
            let now = state(bed)?;
            ensure!(now == before, "they were\n{before}and are\n{now}");
            Ok(())
        })
    };
    let before = state(&bed)?;
    ensure!(before.contains("pods may be forwarded"), "netd has no rule in iptables' chains: {before}");
    let traffic = bed.traffic()?;
    bed.on_n1(&format!("{files}\niptables-nft-save >$SAVED.v4; ip6tables-nft-save >$SAVED.v6\n{RESTORED}"))?;
    same(&bed, &before)?;
    bed.unmoved()?;
    traffic.nothing_lost()?;

    bed.cluster.take("n1").terminate()?;
    bed.on_n1(&format!("nft flush ruleset\n{files}\n{RESTORED}"))?;
    bed.cluster.resume("n1")?;
    same(&bed, &before)?;
    bed.talk()?;
    bed.unmoved()
}
