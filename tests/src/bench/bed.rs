//! One node that runs netd, among many that exist in the store alone.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use dataplane::kernel::Linux;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{IfName, Mac, Prefix, RouteProtocol};
use serde_json::json;
use tempfile::TempDir;

use super::kernel_events::KernelEvent;
use super::process::Process;
use crate::binaries;
use crate::daemon::Daemon;
use crate::deadline::seconds;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

const PORT: u16 = 8081;
/// The tunnel's device.
pub(super) const DEVICE: &str = "flannel.1";

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Vxlan,
    HostGw,
}

impl Backend {
    /// Its name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }
}

/// A node that is a record in the store. The two letters count how often that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StorePeer {
    pub(super) number: u32,
    /// Of its tunnel end.
    pub(super) mac: u8,
    /// Of its address between nodes.
    pub(super) address: u8,
}

impl StorePeer {
    pub(super) fn new(number: u32) -> Self {
        Self { number, mac: 0, address: 0 }
    }

    pub(super) fn name(self) -> String {
        format!("peer-{:05}", self.number)
    }

    /// `10.100.0.0/24` and on.
    pub(super) fn subnet(self) -> Outcome<Prefix> {
        let [_, _, high, low] = self.number.to_be_bytes();
        Prefix::new(Ipv4Addr::new(10, 100 + high, low, 0).into(), 24).context("a subnet")
    }

    pub(super) fn mac(self) -> Mac {
        let [_, _, high, low] = self.number.to_be_bytes();
        Mac([2, self.mac, 0, 0, high, low])
    }

    /// `172.17.0.0` and on: on the link of the node.
    pub(super) fn public(self) -> IpAddr {
        let [_, _, high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(172, 17 + self.address % 14, high, low).into()
    }

    /// The kernel's entries for it, as news of them.
    pub(super) fn entries(self, backend: Backend) -> Outcome<Vec<KernelEvent>> {
        let subnet = self.subnet()?;
        Ok(match backend {
            Backend::HostGw => vec![KernelEvent::Route(subnet, Some(self.public()))],
            Backend::Vxlan => vec![
                KernelEvent::Neighbour(subnet.address(), self.mac()),
                KernelEvent::Fdb(self.mac(), self.public()),
                KernelEvent::Route(subnet, Some(subnet.address())),
            ],
        })
    }

    /// The news of their end.
    pub(super) fn removals(self, backend: Backend) -> Outcome<Vec<KernelEvent>> {
        let subnet = self.subnet()?;
        Ok(match backend {
            Backend::HostGw => vec![KernelEvent::NoRoute(subnet)],
            Backend::Vxlan => {
                vec![
                    KernelEvent::NoNeighbour(subnet.address()),
                    KernelEvent::NoFdb(self.mac(), self.public()),
                    KernelEvent::NoRoute(subnet),
                ]
            }
        })
    }

    /// The route to its pods out of the device with this index, as netd makes it.
    pub(super) fn route(self, backend: Backend, index: u32) -> Outcome<Route> {
        let destination = self.subnet()?;
        let (gateway, onlink) = match backend {
            Backend::Vxlan => (destination.address(), true),
            Backend::HostGw => (self.public(), false),
        };
        let (gateway, protocol) = (Some(gateway), RouteProtocol(110));
        Ok(Route { destination, gateway, index, onlink, protocol, metric: 0, kind: RouteKind::Unicast })
    }

    /// As a netd there would write it.
    fn record(self, backend: Backend) -> Outcome<String> {
        let (way, data, mac) = match backend {
            Backend::HostGw => (json!({ "Type": "host-gw" }), json!(null), None),
            Backend::Vxlan => {
                let mac = self.mac().to_string();
                let way = json!({ "Type": "vxlan", "VNI": 1, "Port": 8472 });
                (way, json!({ "VNI": 1, "VtepMAC": mac }), Some(mac))
            }
        };
        let mut received = way.clone();
        if let Some(mac) = mac {
            received["VtepMAC"] = mac.into();
        }
        let record = json!({
            "Subnet": self.subnet()?.to_string(), "IPv6Subnet": null, "PublicIP": self.public().to_string(),
            "PublicIPv6": null, "BackendType": backend.name(), "BackendData": data, "BackendV6Data": null,
            "Receives": [received], "Sends": [way],
        });
        serde_json::to_string_pretty(&record).context("print a record")
    }
}

/// A machine with an interface that leads nowhere, and a store.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) namespace: Namespace,
    pub(super) backend: Backend,
    disk: TempDir,
}

/// A netd on it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) daemon: Daemon,
    pub(super) process: Process,
    /// From before it was started until it was ready.
    pub(super) took: std::time::Duration,
}

impl Bed {
    /// A machine, and a store with the records of peers 1 to `peers`.
    pub(super) fn new(backend: Backend, peers: u32) -> Outcome<Self> {
        let disk = tempfile::Builder::new().prefix("nt-").tempdir_in("/run").context("make a folder")?;
        let bed = Self { namespace: machine()?, backend, disk };
        std::fs::create_dir_all(bed.store().join("nodes")).context("make the store's folders")?;
        let conf = json!({ "Network": "10.0.0.0/8", "SubnetLen": 24, "Backend": { "Type": backend.name() } });
        std::fs::write(bed.store().join("net-conf.json"), conf.to_string()).context("write net-conf.json")?;
        for number in 1..=peers {
            bed.write(StorePeer::new(number))?;
        }
        Ok(bed)
    }

    /// Gives pods IPv6 beside IPv4, before netd starts.
    pub(super) fn add_ipv6(&self) -> Outcome {
        self.namespace.ip("addr add fd00:172::1/64 dev eth0")?;
        let conf = json!({ "Network": "10.0.0.0/8", "SubnetLen": 24, "EnableIPv6": true, "IPv6Network": "fd00:10::/48",
            "Backend": { "Type": self.backend.name() } });
        std::fs::write(self.store().join("net-conf.json"), conf.to_string()).context("write net-conf.json")
    }

    fn store(&self) -> PathBuf {
        self.disk.path().join("store")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().join("nodes").join(format!("{name}.json"))
    }

    /// Writes a peer's record as netd does, and gives the time right before it was renamed into its place.
    pub(super) fn write(&self, store_peer: StorePeer) -> Outcome<Instant> {
        let path = self.file(&store_peer.name());
        let new = path.with_file_name(".bench.new");
        std::fs::write(&new, store_peer.record(self.backend)?).context("write a record")?;
        let at = Instant::now();
        std::fs::rename(&new, &path).context("put a record in its place")?;
        Ok(at)
    }

    /// Removes a peer's record, and gives the time right before.
    pub(super) fn remove(&self, store_peer: StorePeer) -> Outcome<Instant> {
        let at = Instant::now();
        std::fs::remove_file(self.file(&store_peer.name())).context("remove a record")?;
        Ok(at)
    }

    /// Another machine in the place of this one, which has never seen the network. The store stays.
    pub(super) fn renew(&mut self) -> Outcome {
        self.namespace = machine()?;
        for path in [self.file("n1"), self.disk.path().join("subnet.env")] {
            if path.exists() {
                std::fs::remove_file(path).context("forget the node")?;
            }
        }
        Ok(())
    }

    /// Starts netd with masquerading, and waits until it is ready.
    pub(super) fn start(&self, arguments: &[&str]) -> Outcome<Running> {
        let mut command = std::process::Command::new(binaries::netd()?);
        command.args(["--node-name", "n1", "--iface", "eth0", "--ip-masq"]);
        command.args(["--healthz-port", &PORT.to_string()]).args(arguments);
        command.arg("--store-dir").arg(self.store());
        command.arg("--subnet-file").arg(self.disk.path().join("subnet.env"));
        // As it ships: the harness asks for a line about each change.
        command.env("RUST_LOG", "info");
        let begun = Instant::now();
        let daemon = Daemon::launch(&self.namespace, command, "n1", self.disk.path())?;
        daemon.await_ready()?;
        let took = begun.elapsed();
        Ok(Running { process: Process(daemon.process()), daemon, took })
    }

    /// The kernel, spoken to inside.
    pub(super) fn kernel(&self) -> Outcome<Linux> {
        self.namespace.within(Linux::open)?.context("speak to the kernel")
    }

    /// What `/metrics` says.
    pub(super) fn metrics(&self) -> Outcome<Metrics> {
        let text = self.namespace.within(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], PORT)), seconds(5))?;
            stream.set_read_timeout(Some(seconds(5)))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: netd\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        Ok(Metrics(text.context("ask for /metrics")?))
    }
}

/// A namespace with `eth0`, 172.16.0.1/12, whose packets go nowhere.
fn machine() -> Outcome<Namespace> {
    let namespace = Namespace::new("n1")?;
    namespace.ip("link add eth0 type veth peer name wire\nlink set wire up\n\
         addr add 172.16.0.1/12 brd + dev eth0\nlink set eth0 up")?;
    Ok(namespace)
}

/// The name of the tunnel's device.
pub(super) fn device() -> Outcome<IfName> {
    DEVICE.parse().context("a device's name")
}

/// An answer of `/metrics`.
#[derive(Debug)]
pub(super) struct Metrics(String);

impl Metrics {
    /// The sum of a metric over all its labels that hold `label`.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.contains(label));
        let values = lines.filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        values.sum()
    }

    /// How many runs there were of a trigger (`""` for all), and how many seconds they took.
    pub(super) fn runs(&self, trigger: &str) -> (f64, f64) {
        let sum = |part: &str| self.sum(&format!("netd_reconcile_duration_seconds_{part}"), trigger);
        (sum("count"), sum("sum"))
    }
}
