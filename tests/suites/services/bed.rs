//! One node with netd-proxy, and around it all that it may pass a packet to.
//!
//! ```text
//!   pod 10.0.0.2 ───────────┐                 ┌── client 203.0.113.2 .130, 2600:5200::1, at 192.168.0.1 and 192.168.1.1
//!   local: this node's ─────┤      node       ├── remote: the other nodes' endpoints
//!     endpoints             └─────────────────┘── world: the default route; it has every cluster IP and load balancer address
//! ```
//!
//! The world has them so that nothing stays silent or is refused for want of a host: a packet that no rule touches is answered.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use netd_tests::daemon::Daemon;
use netd_tests::{Context, Namespace, Outcome, binaries, seconds};
use tempfile::TempDir;

use super::objects::Objects;

/// The node's addresses towards this node's endpoints and towards those of other nodes: what these see of masqueraded clients.
pub(crate) const TOWARDS_LOCAL: [&str; 2] = ["10.180.255.1", "fd00:10:ffff::1"];
pub(crate) const TOWARDS_REMOTE: [&str; 2] = ["192.168.7.1", "2001:db8:7::1"];

/// The node and its surroundings.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) node: Namespace,
    pub(crate) pod: Namespace,
    pub(crate) client: Namespace,
    pub(crate) local: Namespace,
    pub(crate) remote: Namespace,
    pub(crate) world: Namespace,
    pub(crate) objects: Objects,
    pub(crate) disk: TempDir,
}

impl Bed {
    /// Makes it, with all endpoints that are ever named.
    pub(crate) fn build(endpoints: &BTreeSet<IpAddr>) -> Outcome<Self> {
        let disk = tempfile::Builder::new().prefix("nt-").tempdir_in("/run").context("make a folder")?;
        let bed = Self {
            node: Namespace::new("node")?,
            pod: Namespace::new("pod")?,
            client: Namespace::new("client")?,
            local: Namespace::new("local")?,
            remote: Namespace::new("remote")?,
            world: Namespace::new("world")?,
            objects: Objects::new(disk.path())?,
            disk,
        };
        bed.sysctls()?;
        bed.cables()?;
        for namespace in [&bed.local, &bed.remote] {
            let lines = endpoints.iter().fold(String::new(), |mut lines, address| {
                let tail = if address.is_ipv6() { " nodad" } else { "" };
                let _ = writeln!(lines, "addr add {address} dev lo{tail}");
                lines
            });
            namespace.ip(&lines)?;
        }
        Ok(bed)
    }

    fn sysctls(&self) -> Outcome {
        for namespace in [&self.node, &self.pod, &self.client, &self.local, &self.remote, &self.world] {
            for place in ["all", "default"] {
                namespace.sysctl(&format!("net/ipv4/conf/{place}/rp_filter"), "0")?;
            }
        }
        self.node.sysctl("net/ipv4/ip_forward", "1")?;
        self.node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        self.node.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        self.node.sysctl("net/ipv4/conf/default/send_redirects", "0")?;
        // One refusal after the other to the same client.
        self.node.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        self.node.sysctl("net/ipv6/icmp/ratelimit", "0")
    }

    fn cables(&self) -> Outcome {
        self.cable(&self.pod, "pod", "10.0.0.2/24 2001:db8:aa::2/64", "10.0.0.1/24 2001:db8:aa::1/64")?;
        self.cable(&self.local, "local", "10.180.255.2/24 fd00:10:ffff::2/64", "10.180.255.1/24 fd00:10:ffff::1/64")?;
        self.cable(&self.remote, "remote", "192.168.7.2/24 2001:db8:7::2/64", "192.168.7.1/24 2001:db8:7::1/64")?;
        self.cable(&self.world, "world", "192.168.8.2/24 2001:db8:8::2/64", "192.168.8.1/24 2001:db8:8::1/64")?;
        self.cable(
            &self.client,
            "eth0",
            "192.168.0.1/24 192.168.1.1/24 2001:db8::ff/64 2001:db8:1::ff/64",
            "192.168.0.2/24 192.168.1.2/24 2001:db8::1/64 2001:db8:1::2/64",
        )?;
        for (namespace, gateway, gateway6) in [
            (&self.pod, "10.0.0.1", "2001:db8:aa::1"),
            (&self.local, TOWARDS_LOCAL[0], TOWARDS_LOCAL[1]),
            (&self.remote, TOWARDS_REMOTE[0], TOWARDS_REMOTE[1]),
            (&self.world, "192.168.8.1", "2001:db8:8::1"),
            (&self.client, "192.168.0.2", "2001:db8::1"),
            (&self.node, "192.168.8.2", "2001:db8:8::2"),
        ] {
            namespace.ip(&format!("route add default via {gateway}\nroute add default via {gateway6}"))?;
        }
        self.client
            .ip("addr add 203.0.113.2 dev lo\naddr add 203.0.113.130 dev lo\naddr add 2600:5200::1 dev lo nodad")?;
        self.node.ip("route add 203.0.113.0/24 via 192.168.0.1\nroute add 2600:5200::/64 via 2001:db8::ff")?;
        let worlds = ["172.30.0.0/15", "1.2.3.4", "5.6.7.8", "9.10.11.12", "192.168.99.11", "fd00:172:30::/112"];
        worlds.iter().try_for_each(|range| self.world.ip(&format!("route add local {range} dev lo")))
    }

    /// A cable between the node and another namespace, with the addresses of both ends.
    fn cable(&self, to: &Namespace, device: &str, theirs: &str, ours: &str) -> Outcome {
        self.node.ip(&format!("link add {device} type veth peer name eth0 netns {}", to.name()))?;
        for (namespace, device, addresses) in [(&self.node, device, ours), (to, "eth0", theirs)] {
            let mut lines = String::new();
            for address in addresses.split(' ') {
                let tail = if address.contains(':') { " nodad" } else { "" };
                let _ = writeln!(lines, "addr add {address} dev {device}{tail}");
            }
            namespace.ip(&format!("{lines}link set {device} up"))?;
        }
        Ok(())
    }

    /// Publishes the objects; with `await_programmed` of them the change is over.
    pub(crate) fn publish(&mut self) -> Outcome {
        let mut lines = String::new();
        for (address, is_local) in self.objects.endpoints() {
            let gateway = match (is_local, address.contains(':')) {
                (true, false) => "10.180.255.2",
                (true, true) => "fd00:10:ffff::2",
                (false, false) => "192.168.7.2",
                (false, true) => "2001:db8:7::2",
            };
            let _ = writeln!(lines, "route replace {address} via {gateway}");
        }
        self.node.ip(&lines)?;
        self.objects.publish()
    }

    /// Starts netd-proxy, with the flags beside those that all tests share.
    pub(crate) fn start(&self, flags: &[String]) -> Outcome<Daemon> {
        let mut command = Command::new(binaries::proxy()?);
        command.arg("--services-dir").arg(self.objects.folder()).args(["--hostname-override=test-node", "-v=4"]);
        if !flags.iter().any(|flag| flag.starts_with("--metrics-bind-address")) {
            command.args(["--healthz-bind-address=", "--metrics-bind-address="]);
        }
        command.args(flags);
        let daemon = Daemon::launch(&self.node, command, "the node", self.disk.path())?;
        daemon.await_log("Services and endpoints are known", seconds(20))?;
        Ok(daemon)
    }
}
