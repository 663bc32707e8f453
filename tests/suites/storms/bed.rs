//! Nodes with a pod on each, all of which talk; and what is asked of a netd after a storm.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dataplane::types::Family;
use netd_tests::daemon::Daemon;
use netd_tests::{
    Cluster, Context, Load, Outcome, Pod, Stack, Topology, ensure, eventually, kernel, net_conf, peer, seconds,
};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

pub(crate) fn vxlan() -> Value {
    json!({ "Type": "vxlan" })
}

pub(crate) struct Bed {
    // Before the cluster: a pod that goes asks its node.
    pub(crate) pods: Vec<Pod>,
    pub(crate) cluster: Cluster,
}

impl Bed {
    /// Two nodes on one segment, with a pod on each.
    pub(crate) fn new(backend: &Value) -> Outcome<Self> {
        let topology = Topology { machines: vec![("n1", 1), ("n2", 1)], underlay: Stack::V4, mtu: 1500 };
        let cluster = Cluster::start(&topology, &net_conf(Stack::V4, backend), &["--ip-masq"])?;
        let pods = vec![cluster.pod("n1", "a")?, cluster.pod("n2", "c")?];
        cluster.settle(&pods[0], &pods[1])?;
        cluster.settle(&pods[1], &pods[0])?;
        Ok(Self { pods, cluster })
    }

    /// Runs `body` while both pods talk; fails where the talk suffers, with the logs.
    pub(crate) fn under_load(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        let load = Load::between(&self.pods.iter().collect::<Vec<_>>())?;
        let with_logs = |failure| self.cluster.with_logs(failure);
        body().map_err(with_logs)?;
        load.unharmed().map_err(with_logs)
    }

    pub(crate) fn n1(&self) -> &Daemon {
        self.cluster.daemon("n1")
    }

    /// Waits until the kernel of n1 sends to each of `peers` where its record says, and to no others.
    pub(crate) fn knows(&self, peers: &[StorePeer]) -> Outcome {
        eventually(seconds(20), "n1 knows every peer as its record says", || {
            let namespace = self.cluster.node("n1").namespace();
            let fdb = kernel::fdb(namespace)?;
            for peer in peers {
                let end = (peer.mac(), peer.address().parse().context("an address")?);
                ensure!(fdb.contains(&end), "{end:?} is not in the FDB");
                let route = kernel::route(namespace, Family::V4, &peer.subnet())?;
                ensure!(route.is_some(), "there is no route to {}", peer.subnet());
            }
            let routes = namespace.json("ip -j route show type unicast proto 110")?.len();
            ensure!(routes == peers.len() + 1, "{} routes for {} peers and n2", routes, peers.len());
            Ok(())
        })
    }

    /// Waits until n1's netd has used no processor for half a second.
    pub(crate) fn rests(&self) -> Outcome {
        let mut last = (0, Instant::now());
        eventually(seconds(20), "netd rests", || {
            let used = processor_ticks(self.n1())?;
            if used != last.0 {
                last = (used, Instant::now());
            }
            ensure!(
                last.1.elapsed() > Duration::from_millis(500),
                "it has used {used} ticks, the last of them just now"
            );
            Ok(())
        })
    }

    /// The lines of n1's log that a person would be troubled with and that hold `text`.
    pub(crate) fn warned(&self, text: &str) -> Vec<String> {
        let log = self.n1().log();
        let lines = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("no longer"));
        lines.filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// The processor time that a netd has used, in clock ticks. The suite's processes have numbers of their own, which the machine's
/// `/proc` does not know.
fn processor_ticks(daemon: &Daemon) -> Outcome<u64> {
    static PROC: OnceLock<Outcome> = OnceLock::new();
    let folder = Path::new("/run/proc-of-the-suite");
    let mounted = PROC.get_or_init(|| {
        std::fs::create_dir_all(folder).context("make a folder")?;
        mount(Some("proc"), folder, Some("proc"), MsFlags::empty(), None::<&str>).context("mount a /proc of the suite")
    });
    mounted.clone()?;
    let stat = std::fs::read_to_string(folder.join(format!("{}/stat", daemon.id()))).context("read netd's times")?;
    // The name is in parentheses and may hold anything (proc_pid_stat(5)); utime and stime are the 14th and 15th field.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// A peer that is nothing but a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StorePeer {
    pub(crate) number: u8,
    /// The last part of its address.
    pub(crate) host: u8,
}

impl StorePeer {
    pub(crate) fn name(self) -> String {
        format!("store_peer{}", self.number)
    }

    pub(crate) fn subnet(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// No two peers have one: a node believes but one of them.
    pub(crate) fn address(self) -> String {
        format!("172.20.{}.{}", self.number, self.host)
    }

    pub(crate) fn mac(self) -> String {
        format!("02:00:00:00:02:{:02x}", self.number)
    }

    pub(crate) fn text(self) -> String {
        json!({ "Subnet": self.subnet(), "PublicIP": self.address(), "BackendType": "vxlan",
            "BackendData": { "VNI": 1, "VtepMAC": self.mac() } })
        .to_string()
    }

    pub(crate) fn write(self, store: &Path) -> Outcome {
        put(store, &self.name(), &self.text())
    }

    pub(crate) fn remove(self, store: &Path) -> Outcome {
        std::fs::remove_file(peer::file(store, &self.name())).context("remove a record")
    }
}

/// Puts a record in its place. The file in between is hidden, as netd's own are, so it is no event of its own.
pub(crate) fn put(store: &Path, name: &str, text: &str) -> Outcome {
    let (new, path) = (store.join(format!("nodes/.{name}")), peer::file(store, name));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).context("write a record")
}

/// Numbers that no real node's subnet has: subnets are taken from anywhere in the network.
pub(crate) fn free_numbers(cluster: &Cluster) -> Outcome<Vec<u8>> {
    let mut free: Vec<u8> = (2..=250).collect();
    for node in ["n1", "n2"] {
        let record = peer::read(cluster.node(node).store(), node)?;
        let taken = record["Subnet"].as_str().and_then(|subnet| subnet.split('.').nth(2)?.parse().ok());
        free.retain(|number| Some(*number) != taken);
    }
    Ok(free)
}
