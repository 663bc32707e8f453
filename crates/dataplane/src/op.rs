//! One change to the kernel as a value. Printed, it is a line for a shell: `ip`, `bridge`, `nft` or `sysctl`.
//!
//! Pure. Devices go by name, so that an op can name a device that an earlier op makes.

use std::fmt;
use std::net::IpAddr;

use crate::error::KernelError;
use crate::link::{LinkChange, Tunnel};
use crate::nft;
use crate::route::{Route, RouteKind};
use crate::types::{Family, IfName, Mac, Mtu, Prefix, RouteProtocol};

/// A change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes a tunnel device, up.
    AddTunnel {
        /// Its name.
        name: IfName,
        /// What defines it.
        tunnel: Tunnel,
        /// The name of the device under it, for people; `tunnel` holds the index.
        underlay: IfName,
        /// Its hardware address; `None` for kinds without one.
        mac: Option<Mac>,
        /// Its MTU in bytes.
        mtu: Mtu,
    },
    /// Makes a bridge, up.
    AddBridge {
        /// Its name.
        name: IfName,
        /// Its hardware address.
        mac: Mac,
        /// Its MTU in bytes.
        mtu: Mtu,
    },
    /// Makes a device a port of a bridge.
    SetPort {
        /// The device.
        name: IfName,
        /// The bridge.
        bridge: IfName,
    },
    /// Lets a bridge port send back where a frame came from.
    SetHairpin(IfName),
    /// Changes a device.
    SetLink {
        /// The device.
        name: IfName,
        /// What to change.
        change: LinkChange,
    },
    /// Removes a device with all that is on it.
    DeleteLink(IfName),
    /// Adds an address to a device.
    AddAddress(DeviceAddress),
    /// Removes an address from a device.
    DeleteAddress(DeviceAddress),
    /// Sets a permanent neighbour entry, whatever is there.
    PutNeighbour {
        /// The device.
        device: IfName,
        /// The neighbour's address.
        address: IpAddr,
        /// The neighbour's hardware address.
        mac: Mac,
    },
    /// Removes a neighbour entry.
    DeleteNeighbour {
        /// The device.
        device: IfName,
        /// The neighbour's address.
        address: IpAddr,
    },
    /// Sets the one tunnel end behind which a hardware address is, whatever it was.
    PutFdb {
        /// The VXLAN device.
        device: IfName,
        /// The hardware address.
        mac: Mac,
        /// The tunnel end.
        destination: IpAddr,
    },
    /// Removes one tunnel end of a hardware address.
    DeleteFdb {
        /// The VXLAN device.
        device: IfName,
        /// The hardware address.
        mac: Mac,
        /// The tunnel end.
        destination: IpAddr,
    },
    /// Adds a route; refused where one of the same destination and metric is there.
    AddRoute(DeviceRoute),
    /// Puts a route in the place of the one with its destination and metric.
    ReplaceRoute(DeviceRoute),
    /// Removes a route.
    DeleteRoute(DeviceRoute),
    /// Writes a sysctl.
    SetSysctl {
        /// The key with slashes, such as `net/ipv4/ip_forward`.
        key: String,
        /// The value.
        value: String,
    },
    /// Changes nftables, atomically.
    Nft(nft::Transaction),
}

/// An address on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceAddress {
    /// The device.
    pub device: IfName,
    /// The address.
    pub address: IpAddr,
    /// How much of it is on-link.
    pub prefix_len: u8,
}

/// A route by its device's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceRoute {
    /// Where to.
    pub destination: Prefix,
    /// The next hop; `None` where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub device: IfName,
    /// The next hop counts as on the link, whatever the device's addresses say.
    pub onlink: bool,
    /// Who made it.
    pub protocol: RouteProtocol,
    /// Lower wins.
    pub metric: u32,
    /// Whether packets go on.
    pub kind: RouteKind,
}

impl DeviceRoute {
    /// The same with the device's index.
    pub fn with_index(&self, index: u32) -> Route {
        let DeviceRoute { destination, gateway, device: _, onlink, protocol, metric, kind } = *self;
        Route { destination, gateway, index, onlink, protocol, metric, kind }
    }

    /// A route to what is on the device's link, of nobody, with the lowest metric.
    pub fn new(destination: Prefix, device: IfName) -> Self {
        let (gateway, onlink, protocol, metric, kind) = (None, false, RouteProtocol(0), 0, RouteKind::default());
        Self { destination, gateway, device, onlink, protocol, metric, kind }
    }

    /// What sorts before every route to `destination`, for a search in a sorted set.
    pub fn least_to(destination: Prefix) -> Self {
        Self::new(destination, IfName::LEAST)
    }

    /// The same with the device's name.
    pub fn of(route: &Route, device: IfName) -> Self {
        let Route { destination, gateway, index: _, onlink, protocol, metric, kind } = *route;
        DeviceRoute { destination, gateway, device, onlink, protocol, metric, kind }
    }
}

impl Op {
    /// The device that has to exist before the op is applied, where there is one.
    pub fn device(&self) -> Option<&IfName> {
        match self {
            Op::SetLink { name, .. } | Op::SetHairpin(name) | Op::DeleteLink(name) => Some(name),
            Op::AddAddress(address) | Op::DeleteAddress(address) => Some(&address.device),
            Op::PutNeighbour { device, .. }
            | Op::DeleteNeighbour { device, .. }
            | Op::PutFdb { device, .. }
            | Op::DeleteFdb { device, .. } => Some(device),
            Op::AddRoute(route) | Op::ReplaceRoute(route) | Op::DeleteRoute(route) => Some(&route.device),
            Op::SetPort { bridge, .. } => Some(bridge),
            Op::AddTunnel { .. } | Op::AddBridge { .. } | Op::SetSysctl { .. } | Op::Nft(_) => None,
        }
    }

    /// The kind of change, as one word for counters: the same for all devices, peers and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::AddTunnel { tunnel: Tunnel::Vxlan(_), .. } => "add_vxlan",
            Op::AddTunnel { tunnel: Tunnel::Ipip(_), .. } => "add_ipip",
            Op::AddBridge { .. } => "add_bridge",
            Op::SetPort { .. } => "set_port",
            Op::SetHairpin(_) => "set_hairpin",
            Op::SetLink { .. } => "set_link",
            Op::DeleteLink(_) => "delete_link",
            Op::AddAddress(_) => "add_address",
            Op::DeleteAddress(_) => "delete_address",
            Op::PutNeighbour { .. } => "put_neighbour",
            Op::DeleteNeighbour { .. } => "delete_neighbour",
            Op::PutFdb { .. } => "put_fdb",
            Op::DeleteFdb { .. } => "delete_fdb",
            Op::AddRoute(_) => "add_route",
            Op::ReplaceRoute(_) => "replace_route",
            Op::DeleteRoute(_) => "delete_route",
            Op::SetSysctl { .. } => "set_sysctl",
            Op::Nft(_) => "change_nftables",
        }
    }

    /// True for an op that removes objects and does nothing else. Elements of sets are no objects here.
    pub fn is_removal(&self) -> bool {
        match self {
            Op::DeleteLink(_)
            | Op::DeleteAddress(_)
            | Op::DeleteNeighbour { .. }
            | Op::DeleteFdb { .. }
            | Op::DeleteRoute(_) => true,
            Op::Nft(transaction) => transaction.is_removal(),
            _ => false,
        }
    }

    /// True where `error` says that the object to remove does not exist, or that the address to add does, so that the op has nothing to
    /// do. The kernel and the plugin add addresses too.
    ///
    /// A missing object of one operation refuses a whole transaction: one of several operations has still to be done.
    pub fn is_done_despite(&self, error: &KernelError) -> bool {
        if matches!(self, Op::AddAddress(_)) {
            return error.is_exists();
        }
        let is_single = !matches!(self, Op::Nft(transaction) if transaction.operations.len() > 1);
        self.is_removal() && is_single && error.is_missing()
    }
}

/// Prints ` WORD VALUE` where there is a value.
fn option(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {word} {value}"))
}

/// A text as one word of a shell, in quotes where it needs them.
struct ShellWord<'a>(&'a str);

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@%+=,".contains(&byte);
        if !self.0.is_empty() && self.0.bytes().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "'{}'", self.0.replace('\'', r"'\''"))
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} dev {}", self.address, self.prefix_len, self.device)?;
        // As in the request: no duplicate address detection.
        if self.address.is_ipv6() { f.write_str(" nodad") } else { Ok(()) }
    }
}

impl fmt::Display for DeviceRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kind.is_unicast() {
            write!(f, "{} ", self.kind.word())?;
        }
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            let across = Family::of(gateway) != self.destination.family();
            write!(f, " via {}{gateway}", if across { "inet6 " } else { "" })?;
        }
        if self.kind.is_unicast() {
            write!(f, " dev {}", self.device)?;
        }
        write!(f, " proto {}", self.protocol.0)?;
        let is_default = self.metric == Route::default_metric(self.destination.family());
        option(f, "metric", (!is_default).then_some(self.metric))?;
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddTunnel { name, tunnel, underlay, mac, mtu } => {
                write!(f, "ip link add {name}")?;
                option(f, "address", *mac)?;
                write!(f, " mtu {mtu} up {}", tunnel.ip_link_type(underlay))
            }
            Op::AddBridge { name, mac, mtu } => write!(f, "ip link add {name} address {mac} mtu {mtu} up type bridge"),
            Op::SetPort { name, bridge } => write!(f, "ip link set {name} master {bridge}"),
            Op::SetHairpin(name) => write!(f, "bridge link set dev {name} hairpin on"),
            Op::SetLink { name, change } => {
                write!(f, "ip link set {name}")?;
                option(f, "mtu", change.mtu)?;
                option(f, "address", change.mac)?;
                option(f, "promisc", change.promiscuous.map(|on| if on { "on" } else { "off" }))?;
                option(f, "alias", change.alias.as_deref().map(ShellWord))?;
                f.write_str(change.up.map_or("", |up| if up { " up" } else { " down" }))
            }
            Op::DeleteLink(name) => write!(f, "ip link delete {name}"),
            Op::AddAddress(address) => write!(f, "ip address add {address}"),
            Op::DeleteAddress(a) => write!(f, "ip address delete {}/{} dev {}", a.address, a.prefix_len, a.device),
            Op::PutNeighbour { device, address, mac } => {
                write!(f, "ip neighbour replace {address} lladdr {mac} dev {device} nud permanent")
            }
            Op::DeleteNeighbour { device, address } => write!(f, "ip neighbour delete {address} dev {device}"),
            Op::PutFdb { device, mac, destination } => {
                write!(f, "bridge fdb replace {mac} dev {device} dst {destination} self permanent")
            }
            Op::DeleteFdb { device, mac, destination } => {
                write!(f, "bridge fdb delete {mac} dev {device} dst {destination} self")
            }
            Op::AddRoute(route) => write!(f, "ip route add {route}"),
            Op::ReplaceRoute(route) => write!(f, "ip route replace {route}"),
            Op::DeleteRoute(route) => write!(f, "ip route delete {route}"),
            Op::SetSysctl { key, value } => write!(f, "sysctl -q -w {key}={value}"),
            Op::Nft(transaction) => write!(f, "nft -f - <<'EOF'\n{transaction}\nEOF"),
        }
    }
}
