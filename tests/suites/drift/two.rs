//! Two daemons on each of two hosts, each with a network of its own.

use netd_tests::daemon::Daemon;
use netd_tests::{
    Cluster, Context, Node, Outcome, Snapshot, Stack, Topology, ensure, eventually, flow, net_conf, seconds,
};
use serde_json::json;

/// The flags of the second daemon.
struct Second {
    arguments: Vec<String>,
}

impl Second {
    fn on(node: &Node, disk: &std::path::Path) -> Outcome<Self> {
        let folder = disk.join("second");
        let own = folder.join(node.name());
        for folder in [&folder.join("store"), &own.join("cni")] {
            std::fs::create_dir_all(folder).context("make the second network's folders")?;
        }
        let conf = json!({ "Network": "10.245.0.0/16", "Backend": { "Type": "vxlan", "VNI": 2 } });
        std::fs::write(folder.join("store/net-conf.json"), conf.to_string()).context("write net-conf.json")?;
        let path = |path: std::path::PathBuf| path.display().to_string();
        let arguments = vec![
            "--ip-masq".to_owned(),
            "--store-dir".to_owned(),
            path(folder.join("store")),
            "--subnet-file".to_owned(),
            path(own.join("subnet.env")),
            "--cni-conf-dir".to_owned(),
            path(own.join("cni")),
        ];
        Ok(Self { arguments })
    }

    fn start(&self, node: &Node) -> Outcome<Daemon> {
        node.start_netd(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// How often a daemon has changed something.
fn runs(daemon: &Daemon) -> usize {
    daemon.log().matches("reconciled").count()
}

/// Harm to the first network alone.
const HARM: [&str; 5] = [
    "ip route flush table main root 10.244.0.0/16 proto 110",
    "ip link del flannel.1",
    "ip neigh flush dev flannel.1 nud permanent",
    "ip link set flannel.1 mtu 1300",
    "nft delete table $FIRST",
];

/// Harm to both.
const HARM_TO_BOTH: [&str; 3] =
    ["ip route flush proto 110", "nft flush ruleset", "ip link del flannel.1; ip link del flannel.2"];

pub(crate) fn leave_each_other_alone() -> Outcome {
    let mut topology = Topology::one_segment(Stack::V4);
    topology.machines.truncate(2);
    let fabric = topology.build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan" })))?;
    let seconds_of = |name: &str| Second::on(fabric.node(name), fabric.disk())?.start(fabric.node(name));
    let (second, _other) = (seconds_of("n1")?, seconds_of("n2")?);
    let talk = |node: &Node| {
        let far = node.namespace().json("ip -j route show root 10.245.0.0/16 dev flannel.2")?;
        let far = far.first().and_then(|route| route["gateway"].as_str()?.parse().ok());
        flow::ping(node.namespace(), far.context("no route to the second network's other node")?)
    };
    let alone = eventually(seconds(10), "the second network works", || {
        talk(fabric.node("n1"))?;
        Snapshot::by_name(fabric.node("n1").namespace(), &[])
    })?;

    let mut cluster = Cluster::on(fabric, &["--ip-masq"])?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    let n1 = cluster.node("n1");
    let both = Snapshot::by_name(n1.namespace(), &[])?;
    let first_table = table_of(&cluster.daemon("n1").log())?;
    let is_whole = |harm: &str, changed: &dyn Fn() -> bool| {
        eventually(seconds(20), &format!("all is as it was after `{harm}`"), || {
            ensure!(changed(), "netd has not changed anything");
            both.same_as(&Snapshot::by_name(n1.namespace(), &[])?)
        })
        .map_err(|failure| cluster.with_logs(failure).with("the second daemon", &second.log()))
    };
    let injure = |harm: &str| {
        let daemons = [cluster.daemon("n1"), &second];
        daemons.iter().try_for_each(|daemon| daemon.stand_still())?;
        n1.namespace().shell(harm)?;
        let happened = both.differs_from(&Snapshot::by_name(n1.namespace(), &[])?);
        daemons.iter().try_for_each(|daemon| daemon.go_on())?;
        happened.context(format!("`{harm}` has done nothing"))
    };
    for harm in HARM {
        let before = (runs(cluster.daemon("n1")), runs(&second));
        injure(&harm.replace("$FIRST", &first_table))?;
        is_whole(harm, &|| runs(cluster.daemon("n1")) > before.0)?;
        ensure!(runs(&second) == before.1, "the second daemon meddled after `{harm}`:\n{}", second.log());
    }
    for harm in HARM_TO_BOTH {
        let before = (runs(cluster.daemon("n1")), runs(&second));
        injure(harm)?;
        is_whole(harm, &|| runs(cluster.daemon("n1")) > before.0 && runs(&second) > before.1)?;
    }
    cluster.talk(&a, &c)?;
    talk(n1)?;

    a.delete()?;
    let before = runs(&second);
    cluster.take("n1").terminate()?;
    let output = cluster.node("n1").run_netd("cleanup", &[])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "cleanup ended with {}: {said}", output.status);
    let n1 = cluster.node("n1");
    alone
        .same_as(&Snapshot::by_name(n1.namespace(), &[])?)
        .context(format!("after the clean-up of the first:\n{said}"))?;
    ensure!(runs(&second) == before, "the second daemon had to mend something:\n{}", second.log());
    talk(n1)
}

/// The nftables table of the daemon with this log.
fn table_of(log: &str) -> Outcome<String> {
    let mark = log.split("mark=").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(format!("inet {}", mark.context("the log has the daemon's mark")?))
}
