//! `netd plan` prints what a reconcile would do and does nothing; `netd cleanup` removes what netd owns and nothing else.

use std::path::PathBuf;
use std::process::{ExitCode, Output};

use dataplane::types::Family;
use netd_tests::suite::test;
use netd_tests::{Cluster, Node, Outcome, Snapshot, Stack, Topology, ensure, flow, kernel, net_conf};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        for (name, backend) in backends() {
            let conf = net_conf(Stack::Dual, &backend);
            let again = conf.clone();
            trials.push(test(format!("a plan of nothing is empty and exits 0/{name}"), move || nothing(&conf)));
            let conf = again.clone();
            trials.push(test(format!("a plan pasted into sh makes the next one empty/{name}"), move || pasted(&conf)));
            trials.push(test(format!("cleanup leaves the kernel as it was/{name}"), move || clean(&again)));
        }
        trials.push(test("a plan changes nothing", dry));
        trials.push(test("cleanup a second time finds nothing", clean_twice));
        trials
    })
}

fn backends() -> [(&'static str, Value); 3] {
    [
        ("vxlan", json!({ "Type": "vxlan" })),
        ("host-gw", json!({ "Type": "host-gw" })),
        ("direct", json!({ "Type": "vxlan", "DirectRouting": true })),
    ]
}

fn start(conf: &Value) -> Outcome<Cluster> {
    let cluster = Cluster::start(&Topology::one_segment(Stack::Dual), conf, &["--ip-masq"])?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    cluster.settle(&c, &a)?;
    cluster.await_settled()?;
    a.delete()?;
    c.delete()?;
    Ok(cluster)
}

fn plan(node: &Node) -> Outcome<(Option<i32>, String)> {
    let output: Output = node.run_netd("plan", &["--ip-masq"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(matches!(output.status.code(), Some(0 | 2)), "{}: {text}{}", output.status, error_of(&output));
    Ok((output.status.code(), text))
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Everything of ours in a node's kernel but the device itself.
const HARM: &str = r#"
    for family in -4 -6; do
        ip $family route show | grep -E '^(10\.244\.|fd00:10:244:)' | while read -r range rest; do
            case $rest in *"proto kernel"*) ;; *) ip $family route del "$range" ;; esac
        done
    done
    for device in $(ip -o link show type vxlan | cut -d: -f2); do
        ip neigh flush dev "$device" nud permanent
        bridge fdb show dev "$device" | while read -r mac rest; do bridge fdb del "$mac" dev "$device"; done
    done
    nft list tables | grep -v -e filter -e mangle -e nat | while read -r word family name; do
        nft delete table "$family" "$name"
    done"#;

fn nothing(conf: &Value) -> Outcome {
    let mut cluster = start(conf)?;
    cluster.take("n1").terminate()?;
    let (code, text) = plan(cluster.node("n1"))?;
    ensure!((code, text.trim()) == (Some(0), ""), "exit {code:?}, it says:\n{text}");
    Ok(())
}

fn pasted(conf: &Value) -> Outcome {
    let mut cluster = start(conf)?;
    cluster.take("n1").terminate()?;
    let n1 = cluster.node("n1");
    // Some lines find nothing to remove, depending on the backend.
    n1.namespace().output(std::process::Command::new("sh").args(["-c", HARM]))?;
    let (code, text) = plan(n1)?;
    ensure!(code == Some(2) && !text.trim().is_empty(), "exit {code:?}, it says:\n{text}");
    n1.namespace().shell(&text)?;
    let (code, rest) = plan(n1)?;
    ensure!((code, rest.trim()) == (Some(0), ""), "after\n{text}\nexit {code:?}, it says:\n{rest}");
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.talk(&a, &c)
}

fn dry() -> Outcome {
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan" }));
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &conf, &["--ip-masq"])?;
    cluster.take("n1").terminate()?;
    let n1 = cluster.node("n1");
    n1.namespace().run("ip link del flannel.1")?;
    let files = [n1.store().to_owned(), n1.cni_conf_dir()];
    let before = Snapshot::take(n1.namespace(), &files)?;
    let (code, text) = plan(n1)?;
    ensure!(code == Some(2) && text.contains("flannel.1"), "exit {code:?}, it says:\n{text}");
    before.same_as(&Snapshot::take(n1.namespace(), &files)?)
}

/// Foreign things of every kind that netd makes, next to it and in its ranges.
const FOREIGN: &str = "ip link add vx9 type vxlan id 9 dstport 8472 local 192.168.1.11 dev eth0 nolearning
     ip link set vx9 up
     bridge fdb append 02:00:00:00:00:99 dev vx9 dst 192.168.1.99
     ip route add 10.99.0.0/16 via 192.168.1.12
     ip route add 10.244.250.0/24 via 192.168.1.12
     ip neigh add 192.168.1.77 lladdr 02:00:00:00:00:77 nud permanent dev eth0
     nft add table ip mine
     nft add chain ip mine forward '{ type filter hook forward priority 0; policy accept; }'
     nft add rule ip mine forward accept comment kept
     ip link add br9 type bridge
     ip address add 10.244.251.1/24 dev br9";

fn clean(conf: &Value) -> Outcome {
    let fabric = Topology::one_segment(Stack::Dual).build()?;
    fabric.write_net_conf(conf)?;
    let n1 = fabric.node("n1");
    // A node that forwards has more addresses and routes of the kernel's own; forwarding stays on after a clean-up, since
    // others may rely on it by then.
    n1.namespace().sysctl("net/ipv4/ip_forward", "1")?;
    n1.namespace().sysctl("net/ipv6/conf/all/forwarding", "1")?;
    n1.namespace().shell(FOREIGN)?;
    let files: [PathBuf; 1] = [n1.cni_conf_dir()];
    n1.await_interface()?;
    let before = Snapshot::take(n1.namespace(), &files)?;

    let daemon = n1.start_netd(&["--ip-masq"])?;
    let _two = fabric.node("n2").start_netd(&["--ip-masq"])?;
    daemon.terminate()?;
    let output = n1.run_netd("cleanup", &[])?;
    ensure!(output.status.success(), "cleanup ended with {}: {}", output.status, error_of(&output));

    before.same_as(&Snapshot::take(n1.namespace(), &files)?)?;
    ensure!(!n1.subnet_file().exists(), "subnet.env is still there");
    Ok(())
}

fn clean_twice() -> Outcome {
    let mut cluster = start(&net_conf(Stack::V4, &json!({ "Type": "vxlan" })))?;
    cluster.take("n1").terminate()?;
    for _ in 0..2 {
        let output = cluster.node("n1").run_netd("cleanup", &[])?;
        ensure!(output.status.success(), "cleanup ended with {}: {}", output.status, error_of(&output));
    }
    ensure!(kernel::link(cluster.node("n1").namespace(), "flannel.1")?.is_none(), "flannel.1 is still there");
    cluster.resume("n1")?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    flow::ping(a.namespace(), c.address(Family::V4)?)
}
