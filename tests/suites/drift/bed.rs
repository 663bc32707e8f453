//! A network with a pod on each node, what is foreign on n1, and the state to come back to.

use dataplane::types::Family;
use netd_tests::{Cluster, Context, Failure, Namespace, Outcome, Pod, Snapshot, Stack, Topology, ensure, eventually};
use netd_tests::{net_conf, seconds};
use serde_json::Value;

use super::injuries::{Injury, To};

/// Others' things of every kind that netd makes, beside its own.
const FOREIGN: &str =
    "ip link add vx9 address 02:00:00:00:09:09 type vxlan id 9 dstport 8472 local 127.0.0.1 nolearning
     ip link set vx9 up
     ip address add 10.99.9.9/32 dev vx9
     bridge fdb append 02:00:00:00:00:99 dev vx9 dst 192.168.1.99
     ip neigh add 10.99.9.1 lladdr 02:00:00:00:00:99 nud permanent dev vx9
     ip link add other9 type veth peer name wire9
     ip link set other9 up; ip link set wire9 up
     ip address add 10.97.0.1/24 dev other9
     ip -6 address add fd00:97::1/64 dev other9 nodad
     ip route add 10.244.250.0/24 via 10.97.0.2
     ip -6 route add fd00:10:244:fa::/64 via fd00:97::2
     ip route add 10.99.0.0/16 via 10.97.0.3 proto 110
     ip neigh add 10.97.0.2 lladdr 02:00:00:00:00:77 nud permanent dev other9";

/// Tables of others; `nft flush ruleset` would take them.
const FOREIGN_TABLE: &str = "nft add table ip mine
     nft add chain ip mine forward '{ type filter hook forward priority 0; policy accept; }'
     nft add rule ip mine forward accept comment kept
     nft add table inet netd-mine";

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    a: Pod,
    others: Vec<Pod>,
    pods: Stack,
    before: Snapshot,
}

impl Bed {
    pub(crate) fn start(topology: &Topology, pods: Stack, backend: &Value, clock: &str) -> Outcome<Self> {
        let fabric = topology.build()?;
        fabric.write_net_conf(&net_conf(pods, backend))?;
        let n1 = fabric.node("n1").namespace();
        // A host that forwards has more addresses of the kernel's own.
        n1.sysctl("net/ipv4/ip_forward", "1")?;
        n1.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        n1.shell(FOREIGN)?;
        // No comparison by the clock: what is put right was noticed.
        let cluster = Cluster::on(fabric, &["--ip-masq", "--iptables-resync", clock])?;
        let a = cluster.pod("n1", "a")?;
        let names: Vec<&str> = topology.machines.iter().skip(1).map(|(name, _)| *name).collect();
        let others = names.into_iter().map(|name| cluster.pod(name, name)).collect::<Outcome<Vec<_>>>()?;
        for other in &others {
            cluster.settle(&a, other)?;
            cluster.settle(other, &a)?;
        }
        cluster.await_settled()?;
        let before = settled(cluster.node("n1").namespace())?;
        Ok(Self { cluster, a, others, pods, before })
    }

    fn n1(&self) -> &Namespace {
        self.cluster.node("n1").namespace()
    }

    /// Starts netd on n1 anew.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.cluster.take("n1").terminate()?;
        self.cluster.resume("n1")
    }

    /// The whole script of an injury here, or `None` where there is nothing to do it to.
    pub(crate) fn script(&self, injury: &Injury) -> Outcome<Option<String>> {
        let tables = self.n1().run("nft list tables")?;
        let table =
            tables.lines().filter_map(|line| line.strip_prefix("table ")).find(|name| name.starts_with("inet netd-"));
        let node = format!("TABLE='{}'", table.context("netd has no nftables table")?);
        let routes = self.routes()?;
        let places: Vec<String> = match injury.to {
            To::Node => vec![String::new()],
            To::EachRoute => routes.iter().map(|route| route.variables.clone()).collect(),
            To::EachTunnel => {
                routes.iter().filter(|route| route.is_tunnel).map(|route| route.variables.clone()).collect()
            }
            To::EachDevice => {
                let links = self.n1().json("ip -j link show type vxlan")?;
                let names = links.iter().filter_map(|link| link["ifname"].as_str()).filter(|name| *name != "vx9");
                names.map(|name| format!("DEV={name}")).collect()
            }
        };
        let scripts: Vec<String> = places.iter().map(|place| format!("{node}\n{place}\n{}", injury.harm)).collect();
        Ok((!scripts.is_empty()).then(|| scripts.join("\n")))
    }

    /// netd's routes on n1.
    fn routes(&self) -> Outcome<Vec<Route>> {
        let mut routes = Vec::new();
        for family in self.pods.families() {
            let flag = if family == Family::V4 { "-4" } else { "-6" };
            for route in self.n1().json(&format!("ip -j {flag} route show type unicast proto 110"))? {
                let text = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
                // One of its protocol, and not netd's.
                if text("dst") == "10.99.0.0/16" {
                    continue;
                }
                routes.push(self.route(family, &text("dst"), &text("gateway"), &text("dev"))?);
            }
        }
        ensure!(routes.len() == self.others.len() * self.pods.families().count(), "not every peer has its routes");
        Ok(routes)
    }

    fn route(&self, family: Family, range: &str, gateway: &str, device: &str) -> Outcome<Route> {
        let (flag, stale) = match family {
            Family::V4 => ("-4", "10.244.240.0/24"),
            Family::V6 => ("-6", "fd00:10:244:f0::/64"),
        };
        let is_tunnel = device != "eth0";
        let more = if is_tunnel {
            let neighbours = self.n1().json(&format!("ip -j {flag} neigh show {gateway} dev {device}"))?;
            let mac =
                neighbours.first().and_then(|entry| entry["lladdr"].as_str()).context("a tunnel has a neighbour")?;
            let entries = self.n1().json(&format!("bridge -j fdb show dev {device}"))?;
            let entry = entries.iter().find(|entry| entry["mac"] == mac).context("a tunnel has a forwarding entry")?;
            // The range's own address, but for its last digit.
            let other = format!("{}9", gateway.strip_suffix('0').unwrap_or(gateway));
            let end = entry["dst"].as_str().unwrap_or_default();
            format!("MAC={mac} END={end} ON=onlink OTHER={other}")
        } else {
            let router = if gateway.contains(':') { "fd00:a:1::1" } else { "192.168.1.1" };
            format!("MAC= END= ON= OTHER={router}")
        };
        let variables = format!("F={flag} R={range} GW={gateway} DEV={device} STALE={stale} {more}");
        Ok(Route { is_tunnel, variables })
    }

    /// Does harm, and waits until netd has put all of it right.
    pub(crate) fn heals(&self, harm: &str) -> Outcome {
        let tables = !harm.contains("flush ruleset");
        if tables {
            self.n1().shell(FOREIGN_TABLE)?;
        }
        let before = settled(self.n1())?;
        self.injure(harm, || before.differs_from(&Snapshot::by_name(self.n1(), &[])?))?;
        self.await_state(&before)?;
        if tables {
            self.n1().shell("nft delete table ip mine; nft delete table inet netd-mine")?;
        }
        self.talk()
    }

    /// Does harm while netd stands still, and fails where `happened` sees none: what was never harmed needs no healing.
    pub(crate) fn injure(&self, harm: &str, happened: impl FnOnce() -> Outcome) -> Outcome {
        let daemon = self.cluster.daemon("n1");
        daemon.stand_still()?;
        let harmed = self.n1().shell(harm).and_then(|_| happened().context("the harm has done nothing"));
        daemon.go_on()?;
        harmed
    }

    /// Waits until n1 is as it was at first.
    pub(crate) fn whole(&self) -> Outcome {
        self.await_state(&self.before)
    }

    fn await_state(&self, state: &Snapshot) -> Outcome {
        eventually(seconds(15), "all is as it was", || state.same_as(&Snapshot::by_name(self.n1(), &[])?))
            .map_err(|failure| failure.with("netd on n1", &self.cluster.daemon("n1").log()))
    }

    /// Does something to the underlay that lasts, and fails where nothing is different then.
    pub(crate) fn change_for_good(&self, script: &str) -> Outcome {
        let before = Snapshot::by_name(self.n1(), &[])?;
        self.injure(&self.underlay(script), || before.differs_from(&Snapshot::by_name(self.n1(), &[])?))
    }

    /// Does something to the underlay.
    pub(crate) fn change(&self, script: &str) -> Outcome {
        self.n1().shell(&self.underlay(script)).map(drop)
    }

    /// A script about the underlay, with its variables replaced.
    fn underlay(&self, script: &str) -> String {
        let (mut routes, mut moved, mut up) = (Vec::new(), Vec::new(), vec!["ip link set $DEVICE up".to_owned()]);
        for (family, address) in self.cluster.node("n1").addresses().iter() {
            let (length, gateway) =
                if family == Family::V4 { ("24 brd +", "192.168.1.1") } else { ("64 nodad", "fd00:a:1::1") };
            up.push(format!("ip address replace {address}/{length} dev $DEVICE"));
            // Machine 11 becomes machine 61.
            let other = address.to_string().replace("11", "61");
            moved.push(format!("ip address add {other}/{length} dev eth0"));
            routes.push(format!("ip route replace default via {gateway}"));
        }
        up.extend(routes.iter().cloned());
        let [routes, moved, up] = [routes, moved, up].map(|lines| lines.join("\n"));
        let place = |line: &str| match line.trim().strip_prefix("%UP ") {
            Some(device) => up.replace("$DEVICE", device),
            None => line.replace("%ROUTES", &routes).replace("%MOVED", &moved),
        };
        let lines: Vec<String> = script.split(';').map(place).collect();
        lines.join("\n")
    }

    /// A ping from n1's pod to each other one, in each family.
    pub(crate) fn talk(&self) -> Outcome {
        for other in &self.others {
            for (_, address) in other.addresses().iter() {
                eventually(seconds(10), "pods talk", || {
                    self.a.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop)
                })
                .map_err(|failure| self.cluster.with_logs(failure))?;
            }
        }
        Ok(())
    }
}

struct Route {
    is_tunnel: bool,
    variables: String,
}

/// All failures as one.
pub(crate) fn all_of(failures: &[Failure]) -> Outcome {
    if failures.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("{} failures\n{}", texts.len(), texts.join("\n\n"))))
}

/// The state once the kernel has tried the addresses that it makes itself, which takes it a second or two.
fn settled(namespace: &Namespace) -> Outcome<Snapshot> {
    eventually(seconds(20), "every address has been tried", || {
        let tentative = namespace.run("ip -6 address show tentative")?;
        ensure!(tentative.trim().is_empty(), "not yet: {tentative}");
        Ok(())
    })?;
    Snapshot::by_name(namespace, &[])
}
