//! SIGKILL at random points of a reconcile, then a start: the same state as where nobody was killed, and nothing left over.
//!
//! Each world has two machines that are alike in everything. Both live through the same changes; on one of them netd is
//! killed again and again on the way, on the other never. After each change both must be alike, in the kernel and on disk.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netd_tests::changes::Changes;
use netd_tests::daemon::Daemon;
use netd_tests::fuzz::Chance;
use netd_tests::suite::test;
use netd_tests::{
    Context, Fabric, Failure, Node, Outcome, Peer, Snapshot, Stack, Topology, ensure, eventually, kernel, net_conf,
    peer, seconds, sleep,
};
use serde_json::{Value, json};

const WORLDS: usize = 5;
/// In each world.
const ROUNDS: usize = 10;
/// In each round: 200 in all.
const KILLS: usize = 4;
/// The number that decides everything; a failure prints it.
const SEED: &str = "NETD_TESTS_SEED";

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let swept = test("what a write that was killed has left goes at the next start", swept);
        let worlds = (0..WORLDS).map(|world| {
            let pods = if world % 2 == 0 { Stack::V4 } else { Stack::Dual };
            let name = format!("{} SIGKILLs, each at a random point/world {world}, {pods:?} pods", ROUNDS * KILLS);
            test(name, move || in_world(world, pods))
        });
        worlds.chain([swept]).collect()
    })
}

fn backends() -> [Value; 4] {
    [
        json!({ "Type": "vxlan" }),
        json!({ "Type": "host-gw" }),
        json!({ "Type": "vxlan", "VNI": 7, "DirectRouting": true }),
        json!({ "Type": "vxlan", "VNI": 7, "Port": 4789, "MTU": 1400 }),
    ]
}

/// One machine of the two, with netd where it runs.
struct Machine {
    fabric: Fabric,
    daemon: Option<Daemon>,
}

/// What both are to be.
struct World {
    pods: Stack,
    backend: usize,
    masquerade: bool,
    /// By number, with the last part of the address that it says it has.
    peers: BTreeMap<usize, usize>,
    chance: Chance,
}

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Some peers come, some leave, some move.
    Peers,
    /// The next backend.
    Backend,
    /// With masquerading where it was without, or the other way round.
    Masquerade,
    /// Somebody deletes what is there.
    Harm,
    /// All that is netd's on this node goes.
    Cleanup,
}

impl Change {
    const ALL: [Self; 5] = [Self::Backend, Self::Peers, Self::Cleanup, Self::Masquerade, Self::Harm];
}

fn in_world(world: usize, pods: Stack) -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    let seed = match std::env::var(SEED) {
        Ok(text) => text.parse().context(format!("{SEED} is no number"))?,
        Err(_) => u64::from(now.subsec_nanos()),
    };
    let mut story = String::new();
    live(seed + (world as u64) * 2, pods, &mut story)
        .map_err(|failure| failure.with(&format!("what happened; again with {SEED}={seed}"), &story))
}

fn live(seed: u64, pods: Stack, story: &mut String) -> Outcome {
    let peers = (1..=50).map(|number| (number, 100 + 2 * number)).collect();
    let mut world = World { pods, backend: 0, masquerade: false, peers, chance: Chance::new(seed) };
    let [mut victim, mut twin] = [Machine::new()?, Machine::new()?];
    world.write(&victim)?;
    world.write(&twin)?;
    let first = world.chance.below(Change::ALL.len());
    // The first start is from cold, with fifty records that are there before.
    for round in 0..ROUNDS {
        let change = (round > 0).then(|| Change::ALL[(first + round) % Change::ALL.len()]);
        let _ = writeln!(story, "round {round}: {change:?}");
        // While netd runs, or while it is down.
        let down = matches!(change, Some(Change::Masquerade | Change::Cleanup) | None) || world.chance.below(2) == 0;
        if down {
            victim.end()?;
        }
        twin.end()?;
        world.decide(change);
        let mut changes = Changes::open(victim.node().namespace())?;
        for machine in [&victim, &twin] {
            world.happen(change, machine)?;
        }
        for _ in 0..KILLS {
            if victim.daemon.is_none() {
                changes = Changes::open(victim.node().namespace())?;
                victim.launch(&world)?;
            }
            let point = world.die(&mut victim, &mut changes)?;
            let _ = writeln!(story, "    killed {point}");
        }
        victim.start(&world)?;
        twin.start(&world)?;
        world.alike(&victim, &twin)?;
    }
    Ok(())
}

/// A write takes too short a time to be hit: what it leaves is put there by hand. Another node's is left alone.
fn swept() -> Outcome {
    let mut machine = Machine::new()?;
    machine.fabric.write_net_conf(&net_conf(Stack::V4, &backends()[0]))?;
    let (folder, nodes) = (machine.fabric.disk().join("n1"), machine.fabric.store.join("nodes"));
    std::fs::create_dir(&nodes).context("make the store's folder")?;
    let ours = [
        folder.join(".subnet.env.aB3dE6~"),
        folder.join(".subnet.env.loosened.aB3dE6~"),
        folder.join("cni/net.d/.10-netd.conflist.aB3dE6~"),
        nodes.join(".n1.json.aB3dE6~"),
    ];
    let other = nodes.join(".n2.json.aB3dE6~");
    for path in ours.iter().chain([&other]) {
        std::fs::write(path, "{ \"half\": ").context("leave something")?;
    }
    let world =
        World { pods: Stack::V4, backend: 0, masquerade: false, peers: BTreeMap::new(), chance: Chance::new(0) };
    machine.start(&world)?;
    let left: Vec<&PathBuf> = ours.iter().filter(|path| path.exists()).collect();
    ensure!(left.is_empty(), "{left:?} are still there");
    ensure!(other.exists(), "what may be another node's was removed");
    Ok(())
}

impl World {
    /// The configuration and every record, as they are to be.
    fn write(&self, machine: &Machine) -> Outcome {
        machine.fabric.write_net_conf(&net_conf(self.pods, &backends()[self.backend]))?;
        let folder = machine.fabric.store.join("nodes");
        for number in 1..=60 {
            match self.peers.get(&number) {
                Some(host) => record(number, *host, self.pods).write(&machine.fabric.store)?,
                None if peer::file(&machine.fabric.store, &name(number)).exists() => {
                    std::fs::remove_file(folder.join(format!("{}.json", name(number)))).context("remove a record")?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn decide(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Peers) => {
                for _ in 0..=self.chance.below(12) {
                    let number = 1 + self.chance.below(60);
                    // One of two addresses that no other peer has: a node believes but one peer of an address.
                    let host = 100 + 2 * number + self.chance.below(2);
                    if self.peers.remove(&number).is_none() || self.chance.below(2) == 0 {
                        self.peers.insert(number, host);
                    }
                }
            }
            Some(Change::Backend) => self.backend = (self.backend + 1) % backends().len(),
            Some(Change::Masquerade) => self.masquerade = !self.masquerade,
            Some(Change::Harm | Change::Cleanup) | None => {}
        }
    }

    fn happen(&self, change: Option<Change>, machine: &Machine) -> Outcome {
        match change {
            Some(Change::Peers | Change::Backend) => self.write(machine),
            Some(Change::Cleanup) => {
                let output = machine.node().run_netd("cleanup", &[])?;
                ensure!(output.status.success(), "cleanup: {}", String::from_utf8_lossy(&output.stderr));
                Ok(())
            }
            Some(Change::Harm) => {
                let harm = "for link in $(ip -o link show type vxlan | cut -d: -f2); do ip link del $link; done\n\
                    ip route flush proto 110 || true\nip -6 route flush proto 110 || true\nnft flush ruleset";
                machine.node().namespace().shell(harm).map(drop)
            }
            Some(Change::Masquerade) | None => Ok(()),
        }
    }

    /// Kills the victim's netd, at the n-th notification of the kernel or after a time, and says when.
    fn die(&mut self, victim: &mut Machine, changes: &mut Changes) -> Outcome<String> {
        let daemon = victim.daemon.take().context("netd runs")?;
        let point = if self.chance.below(3) == 0 {
            let wait = Duration::from_micros(self.chance.below(60_000) as u64);
            sleep(wait);
            format!("after {wait:?}")
        } else {
            let most = [3, 12, 60, 200][self.chance.below(4)];
            let count = 1 + self.chance.below(most);
            let received = changes.await_count(count, Duration::from_millis(300))?;
            format!("after {received} of {count} changes")
        };
        daemon.crash()?;
        Ok(point)
    }

    /// Waits until the twin is as it is to be, and the victim as the twin.
    fn alike(&self, victim: &Machine, twin: &Machine) -> Outcome {
        let backend = &backends()[self.backend];
        let with_logs =
            |failure: Failure| failure.with("the victim's log", &victim.log()).with("the twin's", &twin.log());
        eventually(seconds(20), &format!("the twin is settled on {backend}"), || twin.settled(self))
            .map_err(with_logs)?;
        eventually(seconds(20), &format!("the victim is settled on {backend}"), || victim.settled(self))
            .map_err(with_logs)?;
        eventually(seconds(5), "the victim is as its twin", || twin.snapshot()?.same_as(&victim.snapshot()?))
            .map_err(with_logs)
    }
}

impl Machine {
    fn new() -> Outcome<Self> {
        let topology = Topology { machines: vec![("n1", 1)], underlay: Stack::Dual, mtu: 1500 };
        let fabric = topology.build()?;
        let one_address = "link set eth0 down\nlink set eth0 address 02:00:00:00:00:01\naddr flush dev eth0\n\
            addr add 192.168.1.11/24 brd + dev eth0\naddr add fd00:a:1::11/64 nodad dev eth0\nlink set eth0 up\n\
            route add default via 192.168.1.1\nroute add default via fd00:a:1::1";
        fabric.node("n1").namespace().ip(one_address)?;
        Ok(Self { fabric, daemon: None })
    }

    fn node(&self) -> &Node {
        self.fabric.node("n1")
    }

    fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    fn launch(&mut self, world: &World) -> Outcome {
        let masquerade = format!("--ip-masq={}", world.masquerade);
        self.daemon = Some(self.node().launch_netd(&[&masquerade])?);
        Ok(())
    }

    fn start(&mut self, world: &World) -> Outcome {
        self.launch(world)?;
        self.daemon.as_ref().map_or(Ok(()), Daemon::await_ready)
    }

    fn end(&mut self) -> Outcome {
        self.daemon.take().map_or(Ok(()), |daemon| daemon.terminate().map(drop))
    }

    /// True where the kernel has what the world asks for, and nothing of an earlier backend.
    fn settled(&self, world: &World) -> Outcome {
        let backend = &backends()[world.backend];
        let namespace = self.node().namespace();
        let devices = kernel::vxlans(namespace)?;
        let families = world.pods.families().count();
        let wanted = if backend["Type"] == "vxlan" { families } else { 0 };
        let vni = backend["VNI"].as_u64().unwrap_or(1);
        let right = devices.iter().all(|(_, data)| data["id"] == vni);
        ensure!(devices.len() == wanted && right, "the devices are {devices:?}");
        for family in ["-4", "-6"].iter().take(families) {
            let routes = namespace.json(&format!("ip -j {family} route show type unicast proto 110"))?.len();
            ensure!(routes == world.peers.len(), "{} peers, {routes} routes", world.peers.len());
        }
        let received = peer::read(self.node().store(), "n1")?["Receives"].as_array().map_or(0, Vec::len);
        let encapsulations = if backend["DirectRouting"] == true { 2 } else { 1 };
        ensure!(received == encapsulations, "it receives in {received} encapsulations");
        Ok(())
    }

    /// The kernel, and every file but those that the harness made and the lock, which says who had it last.
    fn snapshot(&self) -> Outcome<Snapshot> {
        let disk = self.fabric.disk();
        let folders: Vec<PathBuf> = vec![disk.join("n1"), self.fabric.store.join("nodes")];
        Snapshot::of_twin(self.node().namespace(), &folders, disk)
    }
}

fn name(number: usize) -> String {
    format!("p{number}")
}

/// A node that receives by each of the backends, and sends by none, so that none has to be kept for it.
fn record(number: usize, host: usize, pods: Stack) -> Peer {
    let mac = format!("02:00:00:00:01:{number:02x}");
    let mut receives = vec![json!({ "Type": "host-gw" })];
    for (vni, port) in [(1, 8472), (7, 8472), (7, 4789)] {
        receives.push(json!({ "Type": "vxlan", "VNI": vni, "Port": port, "VtepMAC": mac, "VtepV6MAC": mac }));
    }
    let peer = Peer::vxlan(&name(number), &format!("10.244.{}.0/24", 100 + number), &format!("192.168.1.{host}"), &mac)
        .set("PublicIPv6", format!("fd00:a:1::{host}"))
        .set("Receives", receives)
        .set("Sends", json!([]));
    if pods.has(dataplane::types::Family::V6) {
        let data = json!({ "VNI": 1, "VtepMAC": mac });
        return peer.set("IPv6Subnet", format!("fd00:10:244:{number}::/64")).set("BackendV6Data", data);
    }
    peer
}
