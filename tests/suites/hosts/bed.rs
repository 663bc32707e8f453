//! Two nodes on one segment with a pod each, the packets between the pods, and what netd says of n1.

use libtest_mimic::Trial;
use netd_tests::backend::{direct, host_gw, vxlan};
use netd_tests::flow::{self, Stream};
use netd_tests::suite::test;
use netd_tests::{Cluster, Context, Fabric, Failure, Node, Outcome, Pod, Snapshot, Stack, Topology};
use netd_tests::{ensure, eventually, net_conf, peer, seconds};
use serde_json::Value;

/// A backend, and the families of pods and nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    backend: fn() -> Value,
    pub(crate) stack: Stack,
}

pub(crate) const VXLAN: Network = Network { name: "vxlan v4", backend: vxlan, stack: Stack::V4 };
pub(crate) const VXLAN_DUAL: Network = Network { name: "vxlan dual", backend: vxlan, stack: Stack::Dual };
pub(crate) const HOST_GW: Network = Network { name: "host-gw v4", backend: host_gw, stack: Stack::V4 };
pub(crate) const HOST_GW_DUAL: Network = Network { name: "host-gw dual", backend: host_gw, stack: Stack::Dual };
pub(crate) const DIRECT: Network = Network { name: "DirectRouting v4", backend: direct, stack: Stack::V4 };
pub(crate) const DIRECT_DUAL: Network = Network { name: "DirectRouting dual", backend: direct, stack: Stack::Dual };

/// Each backend with IPv4.
pub(crate) const EACH: [Network; 3] = [VXLAN, HOST_GW, DIRECT];
/// Each backend with both families.
pub(crate) const EACH_DUAL: [Network; 3] = [VXLAN_DUAL, HOST_GW_DUAL, DIRECT_DUAL];

/// A case in each of the networks.
pub(crate) fn in_each(networks: &[Network], name: &str, case: fn(&Network) -> Outcome) -> Vec<Trial> {
    let trial = |&network: &Network| test(format!("{name}/{}", network.name), move || case(&network));
    networks.iter().map(trial).collect()
}

impl Network {
    /// `net-conf.json` of it.
    pub(crate) fn conf(&self) -> Value {
        net_conf(self.stack, &(self.backend)())
    }

    /// n1 and n2 on one segment, and no netd yet.
    pub(crate) fn fabric(&self) -> Outcome<Fabric> {
        let mut topology = Topology::one_segment(self.stack);
        topology.machines.truncate(2);
        self.built(&topology)
    }

    /// The same where a script has been run on n1.
    pub(crate) fn fabric_after(&self, script: &str) -> Outcome<Fabric> {
        let fabric = self.fabric()?;
        fabric.node("n1").namespace().shell(script)?;
        Ok(fabric)
    }

    /// The machines of a topology, with the configuration in their store.
    pub(crate) fn built(&self, topology: &Topology) -> Outcome<Fabric> {
        let fabric = topology.build()?;
        fabric.write_net_conf(&self.conf())?;
        Ok(fabric)
    }

    /// Nodes that run, with pods that talk.
    pub(crate) fn start(&self) -> Outcome<Bed> {
        Bed::on(self.fabric()?, &[])
    }

    /// The same where a script has been run on n1 before netd starts.
    pub(crate) fn start_after(&self, script: &str) -> Outcome<Bed> {
        Bed::on(self.fabric_after(script)?, &[])
    }
}

/// Nodes n1 and n2, and the pods p1 and p2 on them. Other machines have netd too where they are called like nodes.
pub(crate) struct Bed {
    pub(crate) p1: Pod,
    pub(crate) p2: Pod,
    pub(crate) cluster: Cluster,
    arguments: Vec<String>,
    record: Value,
}

impl Bed {
    /// Starts netd with `--ip-masq` and these arguments, and waits until the pods talk in each family.
    pub(crate) fn on(fabric: Fabric, arguments: &[&str]) -> Outcome<Self> {
        let bed = Self::begin(fabric, arguments)?;
        bed.settled()?;
        Ok(bed)
    }

    /// The same, and does not wait until the pods talk.
    pub(crate) fn begin(fabric: Fabric, arguments: &[&str]) -> Outcome<Self> {
        // What the kernel sends no notification of is looked at each second.
        let arguments = [&["--ip-masq", "--iptables-resync", "1"], arguments].concat();
        let cluster = Cluster::on(fabric, &arguments)?;
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let (p1, p2) = (cluster.pod("n1", "p1")?, cluster.pod("n2", "p2")?);
        let record = peer::read(&cluster.fabric.store, "n1")?;
        Ok(Self { p1, p2, cluster, arguments, record })
    }

    pub(crate) fn n1(&self) -> &Node {
        self.cluster.node("n1")
    }

    pub(crate) fn n2(&self) -> &Node {
        self.cluster.node("n2")
    }

    /// Waits until each pod reaches the other.
    pub(crate) fn settled(&self) -> Outcome {
        self.cluster.settle(&self.p1, &self.p2)?;
        self.cluster.settle(&self.p2, &self.p1)
    }

    /// Waits until the pods reach each other, and sends ping, TCP and UDP both ways, which must arrive untranslated.
    pub(crate) fn talk(&self) -> Outcome {
        self.settled()?;
        self.cluster.talk(&self.p1, &self.p2)?;
        self.cluster.talk(&self.p2, &self.p1)
    }

    /// Echo requests both ways in each family, from now on.
    pub(crate) fn traffic(&self) -> Outcome<Traffic> {
        let mut streams = Vec::new();
        for (from, to) in [(&self.p1, &self.p2), (&self.p2, &self.p1)] {
            for (_, address) in to.addresses().iter() {
                streams.push(Stream::start(from.namespace(), *address)?);
            }
        }
        Ok(Traffic(streams))
    }

    /// Runs a script on n1. `$VETH` is p1's interface there, `$SUBNET` and `$SUBNET6` are n1's.
    pub(crate) fn on_n1(&self, script: &str) -> Outcome<String> {
        self.n1().namespace().shell(&format!("{}\n{script}", self.variables()))
    }

    fn variables(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let veth = text(&self.p1.result()["interfaces"][1]["name"]);
        let (subnet, subnet6) = (text(&self.record["Subnet"]), text(&self.record["IPv6Subnet"]));
        format!("VETH={veth} SUBNET={subnet} SUBNET6={subnet6}")
    }

    /// Runs a script on n1 while its netd stands still, and fails where nothing is different then.
    pub(crate) fn harm(&self, script: &str) -> Outcome {
        let before = Snapshot::by_name(self.n1().namespace(), &[])?;
        self.standing_still(|| {
            self.on_n1(script)?;
            let after = Snapshot::by_name(self.n1().namespace(), &[])?;
            before.differs_from(&after).context(format!("`{script}`"))
        })
    }

    /// Does something while n1's netd stands still.
    pub(crate) fn standing_still(&self, done: impl FnOnce() -> Outcome) -> Outcome {
        let daemon = self.cluster.daemon("n1");
        daemon.stand_still()?;
        let outcome = done();
        daemon.go_on()?;
        outcome
    }

    /// n1's record as it was at first.
    pub(crate) fn record(&self) -> &Value {
        &self.record
    }

    /// Fails unless n1 is as it was at first: it has seen all that happened so far, is ready, has nothing to change, and its record
    /// is the former one.
    pub(crate) fn unmoved(&self) -> Outcome {
        self.has_seen_all()?;
        // What is not the underlay's may still have to be put right.
        eventually(seconds(5), "n1 is as it was", || self.is_unmoved())
            .map_err(|failure| self.cluster.with_logs(failure))
    }

    fn is_unmoved(&self) -> Outcome {
        let now = peer::read(&self.cluster.fabric.store, "n1")?;
        // What a node sends by follows its peers.
        let who = |record: &Value| {
            let mut record = record.clone();
            record["Sends"].take();
            record
        };
        ensure!(who(&now) == who(&self.record), "n1's record was {} and is {now}", self.record);
        let (code, plan) = self.verb("plan", &[])?;
        ensure!(code == Some(0), "netd on n1 would change something: {plan}");
        let status = status(self.n1())?;
        ensure!(status["ready"] == true, "n1 is not ready: {status:#}");
        Ok(())
    }

    /// Runs `netd VERB` on n1 with the daemon's arguments and more; gives the exit code and all that it says.
    pub(crate) fn verb(&self, verb: &str, more: &[&str]) -> Outcome<(Option<i32>, String)> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = self.n1().run_netd(verb, &arguments)?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), said.into_owned()))
    }

    /// What the doctor on n1 has to say, but for what is well.
    pub(crate) fn doctor(&self) -> Outcome<Vec<Value>> {
        let (code, said) = self.verb("doctor", &["-o", "json"])?;
        let findings: Vec<Value> = serde_json::from_str(&said).context(format!("exit {code:?}: it says {said}"))?;
        Ok(findings.into_iter().filter(|finding| finding["verdict"] != "ok").collect())
    }

    /// Waits until n1's netd has put right something that is made wrong now, so that it knows of all that was before.
    pub(crate) fn has_seen_all(&self) -> Outcome {
        let n1 = self.n1().namespace();
        n1.run("ip route add blackhole 10.244.240.0/24 proto 110")?;
        eventually(seconds(10), "netd on n1 looks at the kernel", || {
            let left = n1.run("ip route show exact 10.244.240.0/24")?;
            ensure!(left.trim().is_empty(), "there is still {left}");
            Ok(())
        })
        .map_err(|failure| self.cluster.with_logs(failure))
    }

    /// Waits until n1's record has an address of the node in a field.
    pub(crate) fn publishes(&self, field: &str, address: &str) -> Outcome {
        eventually(seconds(10), &format!("n1 publishes {address}"), || {
            let record = peer::read(&self.cluster.fabric.store, "n1")?;
            ensure!(record[field] == address, "its record is {record}");
            Ok(())
        })
        .map_err(|failure| self.cluster.with_logs(failure))
    }

    /// Waits until n1's packets to other nodes leave by an interface.
    pub(crate) fn uses(&self, interface: &str) -> Outcome {
        eventually(seconds(10), &format!("n1 uses {interface}"), || {
            let seen = &status(self.n1())?["node"]["interface"];
            ensure!(seen["name"] == interface, "it uses {seen}");
            Ok(())
        })
        .map_err(|failure| self.cluster.with_logs(failure))
    }

    /// Starts n1's netd anew.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.cluster.take("n1").terminate()?;
        self.cluster.resume("n1")
    }
}

/// Echo requests under way.
pub(crate) struct Traffic(Vec<Stream>);

impl Traffic {
    /// Ends it, and fails where a reply is missing.
    pub(crate) fn nothing_lost(self) -> Outcome {
        self.0.into_iter().try_for_each(Stream::nothing_lost)
    }
}

/// What `netd status` says of a node.
pub(crate) fn status(node: &Node) -> Outcome<Value> {
    let output = node.run_netd("status", &["-o", "json"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).context(format!(
        "{}: it says {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Waits until `netd status` of a node has a problem with all of these words.
pub(crate) fn has_problem(node: &Node, words: &[&str]) -> Outcome {
    eventually(seconds(10), &format!("netd status of {} has a problem with {words:?}", node.name()), || {
        let status = status(node)?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let is_it = |problem: &Value| words.iter().all(|word| problem.to_string().contains(word));
        ensure!(problems.iter().any(is_it), "its problems are {}, ready {}", status["problems"], status["ready"]);
        Ok(())
    })
}

/// The same, and the node is not ready.
pub(crate) fn awaits_problem(node: &Node, words: &[&str]) -> Outcome {
    has_problem(node, words)?;
    let status = status(node)?;
    ensure!(status["ready"] == false, "{} is ready, with the problems {}", node.name(), status["problems"]);
    Ok(())
}

/// Waits until a pod on one machine answers a ping from another pod, in each family.
pub(crate) fn reaches(from: &Pod, to: &Pod) -> Outcome {
    for (family, address) in to.addresses().iter() {
        let what = format!("{} reaches {} over {family}", from.name(), to.name());
        eventually(seconds(10), &what, || from.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).map(drop))?;
        flow::ping(from.namespace(), *address)?;
    }
    Ok(())
}

/// The address of a node's subnet with this number at its end.
pub(crate) fn nth(subnet: &str, number: &str) -> String {
    let first = subnet.split('/').next().unwrap_or_default();
    // 10.244.5.0 and fd00:10:244:5::
    format!("{}{number}", first.strip_suffix('0').filter(|_| first.contains('.')).unwrap_or(first))
}

/// All failures as one.
pub(crate) fn all_of(failures: &[Failure]) -> Outcome {
    if failures.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("{} failures\n{}", texts.len(), texts.join("\n\n"))))
}
