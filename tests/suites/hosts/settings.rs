//! The host's other settings.

use std::net::{IpAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::flow::{self, Stream};
use netd_tests::plugin::{self, Attachment};
use netd_tests::router::{self, Router};
use netd_tests::suite::test;
use netd_tests::{
    Context, Fabric, Namespace, Node, Outcome, Stack, ensure, eventually, kernel, net_conf, seconds, sleep,
};
use serde_json::{Value, json};

use crate::hostile_bed::{
    Bed, await_ready, backends, caught_up, fabric, said, status, stranger, sysctl, troubles, troubles_by, vxlan,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("another interface keeps the router that it has received when netd starts", routers_by_netd),
        test("another interface keeps the router that it has received when the plugin adds a pod", routers_by_plugin),
        test("what the plugin set for an interface with a router goes with netd's clean-up", plugin_cleanup),
        test("a program on the tunnel's port is one problem, and tries become rare", taken_port),
        test("an abstract socket is notified that netd is ready", abstract_socket),
        test("a socket that nobody listens on is a warning", no_socket),
        test("the tunnel's packets are tracked where a NAT is between", tracked_behind_nat),
    ];
    for (name, backend) in backends() {
        let again = backend.clone();
        trials.push(test(format!("a policy rule that diverts pods is named, with what to type/{name}"), move || {
            diverted(Stack::V4, &backend)
        }));
        if name == "vxlan" {
            trials.push(test(
                format!("a policy rule that diverts pods is named, with what to type/{name} dual"),
                move || diverted(Stack::Dual, &again),
            ));
        }
    }
    trials.push(test("a policy rule that diverts the node's own pods is named", own_diverted));
    trials.push(test("a policy rule that diverts the pods of one peer of several is named", one_diverted));
    trials.push(test("a policy rule that refuses pods' packets is named as long as it is there", refused_by_rule));
    trials.push(test("a policy rule for what is not the pods' is none of netd's business", harmless_rules));
    for stack in [Stack::V4, Stack::V6] {
        trials.push(test(
            format!("the tunnel's packets leave no entries in the table of connections/{stack:?}"),
            move || untracked(stack),
        ));
    }
    trials
}

fn accept_ra(namespace: &Namespace, link: &str) -> Outcome<String> {
    sysctl(namespace, &format!("net/ipv6/conf/{link}/accept_ra"))
}

fn no_default_of_its_own(fabric: &Fabric) -> Outcome<&Node> {
    let n1 = fabric.node("n1");
    n1.namespace().run("ip -6 route del default dev eth0")?;
    Ok(n1)
}

fn routers_by_netd() -> Outcome {
    let fabric = fabric(Stack::Dual, &vxlan(), &[])?;
    let n1 = no_default_of_its_own(&fabric)?;
    let _router = Router::plug(n1.namespace(), "eth1")?;
    let stream = Stream::start(n1.namespace(), router::BEHIND.into())?;
    let daemon = n1.start_netd(&["--iface=eth0"])?;
    ensure!(sysctl(n1.namespace(), "net/ipv6/conf/all/forwarding")? == "1", "netd switched no forwarding on");
    flow::ping(n1.namespace(), router::BEHIND.into()).context("the router's route once forwarding is on")?;
    stream.nothing_lost()?;
    ensure!(accept_ra(n1.namespace(), "eth1")? == "2", "accept_ra of eth1 is {}", accept_ra(n1.namespace(), "eth1")?);

    daemon.terminate()?;
    n1.namespace().sysctl("net/ipv6/conf/eth1/accept_ra", "1")?;
    let found = troubles_by(n1, &["--iface=eth0"])?;
    let named =
        |finding: &&Value| finding["subject"] == "eth1" && finding["remedy"].to_string().contains("accept_ra=2");
    let remedy = found.iter().find(named).context(format!("doctor says {}", Value::from(found.clone())))?;
    n1.namespace().run(remedy["remedy"].as_str().unwrap_or_default())?;
    ensure!(
        !troubles_by(n1, &["--iface=eth0"])?.iter().any(|finding| finding["subject"] == "eth1"),
        "doctor still speaks of eth1"
    );
    let output = n1.run_netd("cleanup", &[])?;
    ensure!(output.status.success() && accept_ra(n1.namespace(), "eth1")? == "1", "after cleanup: {}", said(&output));
    Ok(())
}

fn routers_by_plugin() -> Outcome {
    let fabric = fabric(Stack::Dual, &vxlan(), &[])?;
    let n1 = no_default_of_its_own(&fabric)?;
    let _router = Router::plug(n1.namespace(), "eth1")?;
    let stream = Stream::start(n1.namespace(), router::BEHIND.into())?;
    let pod = Namespace::new("pod")?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "alone", "type": "netd", "bridge": "cni9", "isDefaultGateway": true,
        "ipam": { "type": "host-local", "subnet": "fd00:9::/64", "dataDir": n1.cni_data_dir() },
    });
    let attachment: Attachment = plugin::attachment_by(n1, "alone", &pod, conf)?;
    attachment.succeed("ADD")?;
    ensure!(sysctl(n1.namespace(), "net/ipv6/conf/all/forwarding")? == "1", "the plugin switched no forwarding on");
    n1.namespace().run("ping -n -q -c 3 -i 0.1 -W 1 fd00:9::2")?;
    stream.nothing_lost()
}

/// The plugin alone, with a file that an earlier netd has left; then netd's clean-up.
fn plugin_cleanup() -> Outcome {
    let fabric = fabric(Stack::Dual, &vxlan(), &[])?;
    let n1 = no_default_of_its_own(&fabric)?;
    let _router = Router::plug(n1.namespace(), "eth1")?;
    let env =
        "FLANNEL_IPV6_NETWORK=fd00:9::/48\nFLANNEL_IPV6_SUBNET=fd00:9::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
    std::fs::write(n1.subnet_file(), env).context("write subnet.env")?;
    let pod = Namespace::new("pod")?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "alone", "type": "netd", "bridge": "cni9", "subnetFile": n1.subnet_file(),
        "ipam": { "dataDir": n1.cni_data_dir() },
    });
    plugin::attachment_by(n1, "alone", &pod, conf)?.succeed("ADD")?;
    ensure!(accept_ra(n1.namespace(), "eth1")? == "2", "accept_ra of eth1 is {}", accept_ra(n1.namespace(), "eth1")?);
    let output = n1.run_netd("cleanup", &[])?;
    ensure!(output.status.success() && accept_ra(n1.namespace(), "eth1")? == "1", "after cleanup: {}", said(&output));
    Ok(())
}

fn taken_port() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    let program = n1.namespace().within(|| UdpSocket::bind("0.0.0.0:8472"))?.context("take the tunnel's port")?;
    let daemon = n1.launch_netd(&["--ip-masq"])?;
    eventually(seconds(10), "the problem is named", || {
        let problems = status(n1)?["problems"].as_array().cloned().unwrap_or_default();
        let text = Value::from(problems.clone()).to_string();
        ensure!(problems.len() == 1, "{} problems: {text}", problems.len());
        ensure!(
            text.contains("8472") && text.contains("ss -"),
            "no port, or no command that finds the program: {text}"
        );
        Ok(())
    })
    .map_err(|failure| failure.with("netd", &daemon.log()))?;
    let before = next_index(n1.namespace())?;
    sleep(seconds(4));
    let made = next_index(n1.namespace())? - before - 1;
    ensure!(made <= 4, "netd made {made} devices in four seconds");
    drop(program);
    // Waits have grown to some seconds by now.
    eventually(seconds(20), "netd is ready once the port is free", || {
        ensure!(status(n1)?["ready"] == true, "{}", status(n1)?["problems"]);
        Ok(())
    })
}

/// The number that a new link gets: one more than the last one had, also where that is gone.
fn next_index(namespace: &Namespace) -> Outcome<u64> {
    namespace.run("ip link add counter type bridge")?;
    let index = kernel::existing_link(namespace, "counter")?["ifindex"].as_u64().context("a link has a number")?;
    namespace.run("ip link del counter")?;
    Ok(index)
}

/// Starts netd on n1 with another socket for readiness.
fn with_socket(fabric: &Fabric, socket: &str) -> Outcome<netd_tests::daemon::Daemon> {
    fabric.node("n1").launch_netd_by(&[], |usual| {
        let mut command = Command::new("env");
        command.arg(format!("NOTIFY_SOCKET={socket}")).arg(usual.get_program()).args(usual.get_args());
        command
    })
}

fn abstract_socket() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1").namespace();
    let name = SocketAddr::from_abstract_name("netd-hosts-notify").context("name a socket")?;
    let socket = n1.within(|| UnixDatagram::bind_addr(&name))?.context("make an abstract socket")?;
    socket.set_read_timeout(Some(seconds(10))).context("bound the wait")?;
    let daemon = with_socket(&fabric, "@netd-hosts-notify")?;
    let mut message = [0; 4096];
    let received = socket.recv(&mut message).context("wait for READY=1");
    let length = received.map_err(|failure| failure.with("netd", &daemon.log()))?;
    let text = String::from_utf8_lossy(&message[..length]).into_owned();
    ensure!(text.lines().any(|line| line == "READY=1"), "it says {text:?}");
    Ok(())
}

fn no_socket() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let daemon = with_socket(&fabric, "/run/nobody/listens")?;
    await_ready(fabric.node("n1"))?;
    eventually(seconds(5), "a warning names the socket", || {
        let log = daemon.log();
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains("/run/nobody/listens"));
        ensure!(warned, "its log is {log}");
        Ok(())
    })
}

/// A VPN's table before main.
fn divert(namespace: &Namespace, range: &str) -> Outcome {
    let family = if range.contains(':') { "-6" } else { "-4" };
    namespace
        .shell(&format!(
            "ip link show vpn0 >/dev/null 2>&1 || ip link add vpn0 type bridge; ip link set vpn0 up
             ip {family} route add {range} dev vpn0 table 52
             ip {family} rule add pref 5270 lookup 52"
        ))
        .map(drop)
}

fn diverted(pods: Stack, backend: &Value) -> Outcome {
    let bed = Bed::start(pods, backend, &[])?;
    for family in pods.families() {
        let range = if family == Family::V4 { netd_tests::cluster::NETWORK } else { netd_tests::cluster::IPV6_NETWORK };
        divert(bed.n1(), range)?;
        let (from, to) = (bed.a.namespace(), bed.b.address(family)?);
        ensure!(from.run(&format!("ping -n -q -c 1 -W 0.3 {to}")).is_err(), "the rule diverts nothing over {family}");
        let found = Value::from(troubles(bed.node())?).to_string();
        ensure!(!found.contains("UDP"), "doctor blames the tunnel: {found}");
        eventually(seconds(10), "status names the rule and its table", || {
            let problems = status(bed.node())?["problems"].to_string();
            ensure!(problems.contains("5270") && problems.contains("table 52"), "{problems}");
            Ok(())
        })?;
        heal(&bed, family)?;
        flow::ping(from, to)?;
        eventually(seconds(10), "the problem ends with what the doctor says", || {
            let problems = status(bed.node())?["problems"].to_string();
            ensure!(problems == "[]", "{problems}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Types what the doctor says of the rule of a family until it says nothing more.
fn heal(bed: &Bed, family: Family) -> Outcome {
    for _ in 0..4 {
        let found = troubles(bed.node())?;
        let Some(first) = found.first() else { return Ok(()) };
        let text = first.to_string();
        let remedy = first["remedy"].as_str().unwrap_or_default();
        ensure!(
            text.contains("5270") && text.contains("52") && remedy.contains("rule"),
            "over {family} it says {text}"
        );
        bed.n1().shell(remedy)?;
    }
    let found = troubles(bed.node())?;
    ensure!(found.is_empty(), "having typed what it says, it says {}", Value::from(found));
    Ok(())
}

fn own_diverted() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    divert(bed.n1(), &bed.record("n1", "Subnet")?)?;
    let (from, to) = (bed.b.namespace(), bed.a.address(Family::V4)?);
    ensure!(from.run(&format!("ping -n -q -c 1 -W 0.3 {to}")).is_err(), "the rule diverts nothing");
    let found = Value::from(troubles(bed.node())?).to_string();
    ensure!(found.contains("5270") && found.contains("table 52"), "it says {found}");
    heal(&bed, Family::V4)?;
    flow::ping(from, to)
}

fn one_diverted() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    for (name, n) in [("first", 66), ("second", 67), ("third", 68)] {
        bed.write(&stranger(name, n))?;
        netd_tests::node::routed(bed.node(), &format!("10.244.{n}.0/24"), true)?;
    }
    divert(bed.n1(), "10.244.67.0/24")?;
    eventually(seconds(20), "status names the rule and the peer", || {
        let problems = status(bed.node())?["problems"].to_string();
        ensure!(["5270", "table 52", "second"].iter().all(|word| problems.contains(word)), "{problems}");
        Ok(())
    })
}

/// No time comes to look again: netd learns of the rule from the kernel alone.
fn refused_by_rule() -> Outcome {
    let fabric = fabric(Stack::Dual, &vxlan(), &[])?;
    let bed = Bed::on(fabric, &["--ip-masq", "--iptables-resync=3600"])?;
    for (family, range) in [(Family::V4, netd_tests::cluster::NETWORK), (Family::V6, netd_tests::cluster::IPV6_NETWORK)]
    {
        let (of, to) = (if family == Family::V6 { "-6" } else { "-4" }, bed.b.address(family)?);
        for action in ["unreachable", "prohibit", "blackhole"] {
            bed.n1().run(&format!("ip {of} rule add pref 5270 to {range} {action}"))?;
            eventually(seconds(5), "status names the rule", || {
                let status = status(bed.node())?;
                let problems = status["problems"].to_string();
                ensure!(problems.contains(&format!("5270: from all to {range} {action}")), "{problems}");
                ensure!(status["ready"] == true, "netd's own part is done, but it is not ready: {problems}");
                Ok(())
            })?;
            let found = Value::from(troubles(bed.node())?).to_string();
            ensure!(found.contains(action) && !found.contains("UDP"), "over {family} doctor says {found}");
            bed.n1().run(&format!("ip {of} rule del pref 5270"))?;
            eventually(seconds(5), "the problem ends with the rule", || {
                let problems = status(bed.node())?["problems"].to_string();
                ensure!(problems == "[]", "{problems}");
                Ok(())
            })?;
        }
        flow::ping(bed.a.namespace(), to)?;
        // What keeps packets from going anywhere else than into the VPN.
        bed.n1().shell(&format!(
            "ip {of} route add unreachable {range} table 52
             ip {of} rule add pref 5265 lookup 53
             ip {of} rule add pref 5270 lookup 52"
        ))?;
        let found = Value::from(troubles(bed.node())?).to_string();
        ensure!(found.contains("5270: from all lookup 52") && !found.contains("UDP"), "over {family} it says {found}");
        heal(&bed, family)?;
        flow::ping(bed.a.namespace(), to)?;
    }
    Ok(())
}

/// What VPNs add that leave the pods alone: the rules of a mark, and those that ask main for all but its default route first.
fn harmless_rules() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    bed.n1().shell(
        "ip link add vpn0 type bridge; ip link set vpn0 up
         ip route add default dev vpn0 table 51820
         ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup 51820
         ip rule add pref 5220 not fwmark 0xca6c lookup 51820
         ip rule add pref 5215 lookup main suppress_prefixlength 0",
    )?;
    let found = troubles(bed.node())?;
    ensure!(found.is_empty(), "doctor says {}", Value::from(found));
    caught_up(bed.node(), &bed.cluster.fabric)?;
    let problems = status(bed.node())?["problems"].to_string();
    ensure!(problems == "[]", "status says {problems}");
    flow::ping(bed.a.namespace(), bed.b.address(Family::V4)?)
}

/// Entries of a node's table of connections that are for the tunnel's port.
fn entries(node: &Node) -> Outcome<(usize, usize)> {
    let table = node.namespace().shell("for family in ipv4 ipv6; do conntrack -L -f $family 2>&1; done")?;
    let table: Vec<&str> = table.lines().filter(|line| line.contains("dport=") || line.contains("type=")).collect();
    Ok((table.len(), table.iter().filter(|line| line.contains("dport=8472")).count()))
}

fn untracked(stack: Stack) -> Outcome {
    let bed = Bed::start(stack, &vxlan(), &[])?;
    for _ in 0..10 {
        bed.cluster.talk(&bed.a, &bed.b)?;
    }
    for name in ["n1", "n2"] {
        let (all, tunnel) = entries(bed.cluster.node(name))?;
        ensure!(all > 0, "{name} tracks nothing at all");
        ensure!(tunnel == 0, "{tunnel} of the {all} entries of {name} are the tunnel's own");
    }
    Ok(())
}

/// n1 has its public address by a translation of its own, which needs the table.
fn tracked_behind_nat() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let public: IpAddr = [203, 0, 113, 1].into();
    let (n1, n2) = (fabric.node("n1"), fabric.node("n2"));
    n1.namespace().shell(
        "nft add table ip cloud
         nft add chain ip cloud pre '{ type nat hook prerouting priority -100; }'
         nft add rule ip cloud pre ip daddr 203.0.113.1 dnat to 192.168.1.11",
    )?;
    n2.namespace().run("ip route add 203.0.113.1 via 192.168.1.11")?;
    let _first = n1.start_netd(&["--ip-masq", "--public-ip=203.0.113.1"])?;
    let _second = n2.start_netd(&["--ip-masq"])?;
    let pods = (netd_tests::Pod::add(n1, "a")?, netd_tests::Pod::add(n2, "b")?);
    let to = pods.0.address(Family::V4)?;
    eventually(seconds(10), &format!("a pod behind {public} is reached"), || {
        pods.1.namespace().run(&format!("ping -n -q -c 1 -W 1 {to}")).map(drop)
    })?;
    flow::tcp(pods.1.namespace(), pods.0.namespace(), to)?;
    let (_, tunnel) = entries(n1)?;
    ensure!(tunnel > 0, "nothing is tracked where a translation needs it");
    Ok(())
}
