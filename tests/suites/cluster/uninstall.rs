//! Netd goes by README's commands, and the nodes are as they were before it came.

use libtest_mimic::Trial;
use netd_tests::kubernetes::Machine;
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, ensure, eventually, seconds};
use serde_json::Value;

use crate::bed::{Bed, NODES};
use crate::readme;

pub(crate) fn trials() -> Vec<Trial> {
    vec![test("the clean-up jobs leave nothing of netd's on any node", uninstall)]
}

/// What netd makes on a node, as a shell shows it. The folders that the kubelet makes for it stay, empty.
const TRACES: &str = "find /etc/cni/net.d /run/flannel /run/netd /var/lib/netd /opt/cni/bin/netd ! -type d; \
    ip -brief link show type vxlan; ip -brief link show type bridge; ip route show proto 110; nft list tables | sort";

/// The tables of the kubelet, and of kube-proxy, which makes those of one family after the other.
const OTHERS: [&str; 8] =
    ["ip filter", "ip kube-proxy", "ip mangle", "ip nat", "ip6 filter", "ip6 kube-proxy", "ip6 mangle", "ip6 nat"];

fn uninstall() -> Outcome {
    let topology = Topology::two_segments(Stack::V4);
    let mut bed = Bed::empty(&topology, Stack::V4)?;
    eventually(seconds(60), "the kubelet and kube-proxy have made their tables", || {
        bed.cluster.machines.iter().try_for_each(|machine| {
            let tables = machine.run("nft list tables")?;
            let missing = OTHERS.iter().find(|table| !tables.contains(&format!("table {table}\n")));
            ensure!(missing.is_none(), "{} has no table {missing:?}", machine.name());
            Ok(())
        })
    })?;
    let before = traces(&bed)?;
    bed.apply()?;
    for name in NODES {
        bed.pods.push(bed.cluster.pod(name, &format!("pod-{name}")).map_err(|failure| bed.with_logs(failure))?);
    }
    bed.talk()?;
    let server = &bed.cluster.server;
    server.shell(readme::commands("**Uninstall**")?).map_err(|failure| bed.with_logs(failure))?;
    let after = traces(&bed)?;
    ensure!(before == after, "before it came:\n{before}\nafterwards:\n{after}");
    for name in NODES {
        let node = server.get(&format!("/api/v1/nodes/{name}"))?;
        let left = node["metadata"]["annotations"].as_object().into_iter().flatten();
        let left: Vec<(&String, &Value)> =
            left.filter(|(key, _)| key.contains("flannel") || key.contains("netd")).collect();
        ensure!(left.is_empty(), "the Node {name} has {left:?}");
    }
    ensure!(server.get("/api/v1/namespaces/netd").is_err(), "the namespace is there");
    Ok(())
}

fn traces(bed: &Bed) -> Outcome<String> {
    let look = |machine: &Machine| {
        let output = machine.command("sh").args(["-c", &format!("({TRACES}) 2>/dev/null")]).output();
        let output = netd_tests::Context::context(output, "look at a machine")?;
        Ok(format!("{}\n{}", machine.name(), String::from_utf8_lossy(&output.stdout)))
    };
    bed.cluster.machines.iter().map(look).collect()
}
