//! The machines under a cluster, as data: segments, nodes on them, and a router between; and the building of it.
//!
//! A segment is a namespace with one bridge, where everything that passes can be seen. The router knows the underlay
//! and nothing else: a pod's packet that reaches it without a tunnel is lost, as in a real network.
//!
//! ```text
//!   n1 .11   n2 .12                 n3 .13          192.168.<segment>.0/24 and fd00:a:<segment>::/64
//!     |        |                      |
//!   [segment 1: br0]-- .1 router .1 --[segment 2: br0]
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use dataplane::types::{Family, PerFamily};
use tempfile::TempDir;

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::sniffer::Sniffer;

/// Address families: of the machines among each other, or of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl Stack {
    /// Each of the three.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Dual];

    /// Its families.
    pub fn families(self) -> impl Iterator<Item = Family> {
        Family::BOTH.into_iter().filter(move |family| self.has(*family))
    }

    /// True where `family` is one of them.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::V4 => family == Family::V4,
            Self::V6 => family == Family::V6,
            Self::Dual => true,
        }
    }
}

/// Which machines there are. Segments count from 1.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Each machine's name and the segment it is on.
    pub machines: Vec<(&'static str, u8)>,
    /// The families of the underlay.
    pub underlay: Stack,
    /// The MTU of every link of the underlay.
    pub mtu: u32,
}

impl Topology {
    /// `n1` and `n2` on the first segment, `n3` behind the router.
    pub fn two_segments(underlay: Stack) -> Self {
        Self { machines: vec![("n1", 1), ("n2", 1), ("n3", 2)], underlay, mtu: 1500 }
    }

    /// `n1`, `n2` and `n3` on one segment.
    pub fn one_segment(underlay: Stack) -> Self {
        Self { machines: vec![("n1", 1), ("n2", 1), ("n3", 1)], underlay, mtu: 1500 }
    }

    /// The same with one more machine.
    #[must_use]
    pub fn with(mut self, name: &'static str, segment: u8) -> Self {
        self.machines.push((name, segment));
        self
    }

    /// The same with another MTU.
    #[must_use]
    pub fn with_mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Makes all of it.
    ///
    /// # Errors
    /// Where the kernel refuses a part; what was made goes again.
    pub fn build(&self) -> Outcome<Fabric> {
        // The suite's own tmpfs, so that it goes with the suite however that ends.
        let disk =
            tempfile::Builder::new().prefix("nt-").tempdir_in("/run").context("make a folder for the nodes' files")?;
        let store = disk.path().join("store");
        std::fs::create_dir(&store).context("make the store's folder")?;
        let count = self.machines.iter().map(|(_, segment)| *segment).max().unwrap_or(0);
        let router = Namespace::new("router")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let mut segments = Vec::new();
        for segment in 1..=count {
            segments.push(self.segment(segment, &router)?);
        }
        let mut nodes = Vec::new();
        for (index, &(name, segment)) in (11..).zip(&self.machines) {
            let addresses =
                PerFamily::from_fn(|family| self.underlay.has(family).then(|| host(family, segment, index)));
            let namespace = machine(&segments[usize::from(segment - 1)], name, segment, &addresses, self.mtu)?;
            let node = Node::new(name, segment, namespace, addresses, disk.path())?;
            nodes.push(node);
        }
        Ok(Fabric { nodes, segments, router, store, mtu: self.mtu, disk })
    }

    fn segment(&self, segment: u8, router: &Namespace) -> Outcome<Namespace> {
        let fabric = Namespace::new(&format!("segment{segment}"))?;
        // With snooping the bridge would wait for membership reports before it floods neighbour solicitations.
        fabric.ip(&format!("link add br0 mtu {} type bridge mcast_snooping 0\nlink set br0 up", self.mtu))?;
        let addresses = PerFamily::from_fn(|family| self.underlay.has(family).then(|| host(family, segment, 1)));
        plug(&fabric, router, "router", &format!("eth{segment}"), &addresses, self.mtu)?;
        Ok(fabric)
    }
}

/// Machine number `n` on a segment.
fn host(family: Family, segment: u8, n: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, segment, n).into(),
        // Written so that the last group reads like the IPv4 one: ::11 for .11.
        Family::V6 => {
            Ipv6Addr::new(0xfd00, 0xa, segment.into(), 0, 0, 0, 0, u16::from(n / 10) * 16 + u16::from(n % 10)).into()
        }
    }
}

fn default_routes(addresses: &PerFamily<IpAddr>, segment: u8) -> String {
    addresses.families().fold(String::new(), |mut lines, family| {
        let _ = writeln!(lines, "route add default via {}", host(family, segment, 1));
        lines
    })
}

/// A machine's namespace, on its segment.
fn machine(bridge: &Namespace, name: &str, segment: u8, addresses: &PerFamily<IpAddr>, mtu: u32) -> Outcome<Namespace> {
    let namespace = Namespace::new(name)?;
    plug(bridge, &namespace, name, "eth0", addresses, mtu)?;
    namespace.ip(&default_routes(addresses, segment))?;
    Ok(namespace)
}

/// A cable from a segment's bridge to `device` in `machine`.
fn plug(
    segment: &Namespace,
    machine: &Namespace,
    port: &str,
    device: &str,
    addresses: &PerFamily<IpAddr>,
    mtu: u32,
) -> Outcome {
    let peer = machine.name();
    segment.ip(&format!(
        "link add {port} mtu {mtu} type veth peer name {device} mtu {mtu} netns {peer}\nlink set {port} master br0 up"
    ))?;
    let mut lines = String::new();
    for (family, address) in addresses.iter() {
        let tail = if family == Family::V4 { "/24 brd +" } else { "/64 nodad" };
        let _ = writeln!(lines, "addr add {address}{tail} dev {device}");
    }
    machine.ip(&format!("{lines}link set {device} up"))
}

/// A built [`Topology`]. All of it goes when this does.
#[derive(Debug)]
pub struct Fabric {
    /// The machines, in the topology's order.
    pub nodes: Vec<Node>,
    /// Each segment's own namespace, with a bridge `br0` and a port for each machine, called like the machine.
    pub segments: Vec<Namespace>,
    /// The router, with `eth<segment>` on each segment.
    pub router: Namespace,
    /// The folder that all nodes share as `--store-dir`.
    pub store: PathBuf,
    mtu: u32,
    disk: TempDir,
}

impl Fabric {
    /// The machine with this name.
    ///
    /// # Panics
    /// Where the topology has none: a mistake in the test.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).expect("the topology names the node")
    }

    /// Takes a machine's namespace away and makes another at the same addresses, as a reboot does. Its files stay.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn reboot(&mut self, name: &str) -> Outcome {
        let place = self.nodes.iter().position(|node| node.name() == name).context("no such machine")?;
        let node = &mut self.nodes[place];
        let bridge = &self.segments[usize::from(node.segment() - 1)];
        // The card stays the same, as its neighbours remember it.
        let links = node.namespace().json("ip -j link show dev eth0")?;
        let card = links.first().and_then(|link| link["address"].as_str()).context("eth0 has no address")?.to_owned();
        // The cable would go with it, but when is the kernel's matter.
        bridge.run(&format!("ip link del {name}"))?;
        node.unplug()?;
        let fresh = machine(bridge, name, node.segment(), node.addresses(), self.mtu)?;
        fresh.ip(&format!("link set eth0 address {card}"))?;
        node.plug(fresh);
        Ok(())
    }

    /// Plugs another cable from a machine into its segment, as `device`, which is up and has no address. The segment's port is
    /// called like the machine and the device.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn plug(&self, name: &str, device: &str) -> Outcome {
        let node = self.node(name);
        let segment = &self.segments[usize::from(node.segment() - 1)];
        plug(segment, node.namespace(), &format!("{name}{device}"), device, &PerFamily::none(), self.mtu)
    }

    /// Starts to listen to all that passes on a segment, counted from 1.
    ///
    /// # Errors
    /// Where the kernel gives no packet socket.
    pub fn sniffer(&self, segment: u8) -> Outcome<Sniffer> {
        Sniffer::start(&self.segments[usize::from(segment - 1)])
    }

    /// Writes the network configuration that all nodes share.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write_net_conf(&self, conf: &serde_json::Value) -> Outcome {
        let text = serde_json::to_string_pretty(conf).context("print net-conf.json")?;
        std::fs::write(self.store.join("net-conf.json"), text).context("write net-conf.json")
    }

    /// The folder under which everything of this fabric lives on disk.
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }
}
