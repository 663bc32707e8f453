//! What a change is about: the object that something else may be changing back.
//!
//! Pure. What cannot stand without the other counts as one object: nothing on a device can be put back before the device.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use dataplane::nft::{Family, Operation, TableId, Transaction};
use dataplane::op::{DeviceRoute, LinkChange, Op};
use dataplane::types::{IfName, Mac, Prefix};

use crate::hash::fnv;
use crate::overlay::Desired;

/// Something in the kernel, by what it is known by there, whatever its value. Prints as a person would name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A device, with all that is on it where it has to be made, taken up or given its address.
    Device(IfName),
    /// An address of a device.
    Address(IfName, IpAddr),
    /// A neighbour entry.
    Neighbour(IfName, IpAddr),
    /// A forwarding entry.
    Fdb(IfName, Mac),
    /// The route to a destination.
    Route(Prefix),
    /// A sysctl.
    Sysctl(String),
    /// An nftables table.
    Table(TableId),
    /// Rules of ours in a chain of others.
    Rules(TableId, String),
}

impl Object {
    /// In one word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Device(_) => "device",
            Object::Address(..) => "address",
            Object::Neighbour(..) => "neighbour",
            Object::Fdb(..) => "fdb",
            Object::Route(_) => "route",
            Object::Sysctl(_) => "sysctl",
            Object::Table(_) => "table",
            Object::Rules(..) => "rules",
        }
    }

    /// How a person finds out who changes it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Object::Device(_) => "`ip monitor link address`",
            Object::Address(..) => "`ip monitor address`",
            Object::Neighbour(..) => "`ip monitor neighbour`",
            Object::Fdb(..) => "`bridge monitor fdb`",
            Object::Route(_) => "`ip monitor route`",
            Object::Sysctl(_) => "look into /etc/sysctl.d and what else sets it",
            Object::Table(_) | Object::Rules(..) => "`nft monitor`",
        }
    }

    fn of(op: &Op) -> Self {
        match op {
            Op::AddTunnel { name, .. }
            | Op::AddBridge { name, .. }
            | Op::SetPort { name, .. }
            | Op::SetHairpin(name)
            | Op::SetLink { name, .. }
            | Op::DeleteLink(name) => Object::Device(name.clone()),
            Op::AddAddress(a) | Op::DeleteAddress(a) => Object::Address(a.device.clone(), a.address),
            Op::PutNeighbour { device, address, .. } | Op::DeleteNeighbour { device, address } => {
                Object::Neighbour(device.clone(), *address)
            }
            Op::PutFdb { device, mac, .. } | Op::DeleteFdb { device, mac, .. } => Object::Fdb(device.clone(), *mac),
            Op::AddRoute(route) | Op::ReplaceRoute(route) | Op::DeleteRoute(route) => Object::Route(route.destination),
            Op::SetSysctl { key, .. } => Object::Sysctl(key.clone()),
            Op::Nft(transaction) => of_nft(transaction),
        }
    }
}

/// The operations of one transaction are about one object; a removal of several objects counts as the first.
fn of_nft(transaction: &Transaction) -> Object {
    match transaction.operations.as_slice() {
        [
            Operation::AddRule { table, chain, .. }
            | Operation::InsertRule { table, chain, .. }
            | Operation::DeleteRule { table, chain, .. },
            ..,
        ] => Object::Rules(table.clone(), chain.clone()),
        [other, ..] => Object::Table(other.table().clone()),
        // It changes nothing.
        [] => Object::Table(TableId::new(Family::Inet, "")),
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Device(name) => write!(f, "device {name}"),
            Object::Address(device, address) => write!(f, "address {address} of {device}"),
            Object::Neighbour(device, address) => write!(f, "neighbour {address} on {device}"),
            Object::Fdb(device, mac) => write!(f, "forwarding entry {mac} on {device}"),
            Object::Route(destination) => write!(f, "route {destination}"),
            Object::Sysctl(key) => write!(f, "sysctl {key}"),
            Object::Table(table) => write!(f, "nftables table {} {}", table.family, table.name),
            Object::Rules(table, chain) => {
                write!(f, "netd's rules in nftables chain {} {} {chain}", table.family, table.name)
            }
        }
    }
}

/// What each op of a plan is about.
pub(super) fn of_plan(ops: &[Op], desired: &Desired) -> Vec<Object> {
    let roots = roots(ops);
    let ports: BTreeMap<&IfName, &IfName> = ops.iter().filter_map(port_of).collect();
    let on_root = |op: &Op| {
        let device = op.device()?;
        roots.get(*ports.get(device).unwrap_or(&device))
    };
    // A key such as net/ipv6/conf/flannel.1/accept_ra.
    let rooted = |key: &str| key.split('/').find_map(|part| roots.get(&part.parse::<IfName>().ok()?));
    let stones = stones(ops);
    let destination = |route: &DeviceRoute| *stones.get(&route.destination).unwrap_or(&route.destination);
    // A destination has one route: what else stands there goes with it.
    let carried: BTreeMap<Prefix, &IfName> =
        ops.iter().filter_map(|op| Some((destination(route_of(op)?), on_root(op)?))).collect();
    let about = |op: &Op| {
        if let Some(route) = route_of(op) {
            let destination = destination(route);
            return carried
                .get(&destination)
                .map_or(Object::Route(destination), |root| Object::Device((*root).clone()));
        }
        match op {
            Op::AddTunnel { name, .. } | Op::AddBridge { name, .. } => {
                Object::Device(roots.get(name).unwrap_or(name).clone())
            }
            Op::SetSysctl { key, .. } => {
                let precondition = desired.preconditions.iter().find(|precondition| precondition.key == *key);
                // It is done for the sake of another one, and never alone.
                let key = precondition.map_or(key.as_str(), |precondition| precondition.before);
                rooted(key).map_or_else(|| Object::Sysctl(key.to_owned()), |root| Object::Device(root.clone()))
            }
            _ => on_root(op).map_or_else(|| Object::of(op), |root| Object::Device(root.clone())),
        }
    };
    ops.iter().map(about).collect()
}

fn port_of(op: &Op) -> Option<(&IfName, &IfName)> {
    if let Op::SetPort { name, bridge } = op { Some((name, bridge)) } else { None }
}

fn route_of(op: &Op) -> Option<&DeviceRoute> {
    match op {
        Op::AddRoute(route) | Op::ReplaceRoute(route) | Op::DeleteRoute(route) => Some(route),
        _ => None,
    }
}

/// The devices without which nothing on them can be carried out as planned, each with the one that it counts as.
fn roots(ops: &[Op]) -> BTreeMap<IfName, IfName> {
    let made: Vec<_> =
        ops.iter().filter_map(|op| if let Op::AddTunnel { name, .. } = op { Some(name) } else { None }).collect();
    let last = ops.iter().rposition(|op| matches!(op, Op::AddTunnel { .. })).unwrap_or(0);
    // What goes before another is made goes to make room for it.
    let cleared: BTreeSet<_> = ops[..last].iter().filter_map(deleted).collect();
    let changed = ops.iter().filter_map(|op| match op {
        Op::SetLink { name, change: LinkChange { up, mac, .. } } if up.is_some() || mac.is_some() => Some(name),
        Op::AddBridge { name, .. } => Some(name),
        // With the last address of a device, the kernel removes the routes out of it.
        Op::AddAddress(address) => Some(&address.device),
        _ => deleted(op),
    });
    let mut roots: BTreeMap<_, _> =
        changed.chain(made.iter().copied()).map(|name| (name.clone(), name.clone())).collect();
    if let (Some(first), false) = (made.first(), cleared.is_empty()) {
        for name in cleared.into_iter().chain(made.iter().copied()) {
            roots.insert(name.clone(), (*first).clone());
        }
    }
    roots
}

fn deleted(op: &Op) -> Option<&IfName> {
    if let Op::DeleteLink(name) = op { Some(name) } else { None }
}

/// Routes to the next hop of another route of the plan, without which the kernel would not take that one, with its destination.
fn stones(ops: &[Op]) -> BTreeMap<Prefix, Prefix> {
    let put = ops.iter().filter_map(|op| match op {
        Op::AddRoute(route) | Op::ReplaceRoute(route) => Some(route),
        _ => None,
    });
    put.filter(|route| route.onlink)
        .filter_map(|route| Some((Prefix::host(route.gateway?), route.destination)))
        .collect()
}

/// What is wanted of an object, part by part: a hash of each. Another value of the same part is another wish.
pub(super) type Wish = BTreeMap<&'static str, u64>;

/// Adds what `op` wants of `object`.
pub(super) fn wish(op: &Op, object: &Object, wish: &mut Wish) {
    let mut add = |part: &'static str, value: String| {
        wish.insert(part, fnv(value.as_bytes()));
    };
    // What merely lies on a device does not make it another one.
    match op {
        Op::SetLink { change: LinkChange { up, mtu, mac, alias }, .. } => {
            let parts = [
                ("up", up.map(|up| up.to_string())),
                ("mtu", mtu.map(|mtu| mtu.to_string())),
                ("mac", mac.map(|mac| mac.to_string())),
                ("alias", alias.clone()),
            ];
            for (part, value) in parts {
                if let Some(value) = value {
                    add(part, value);
                }
            }
        }
        Op::AddTunnel { .. } => add("device", op.to_string()),
        Op::AddAddress(address) if address.address.is_ipv4() => add("IPv4 address", address.to_string()),
        Op::AddAddress(address) => add("IPv6 address", address.to_string()),
        _ if matches!(object, Object::Device(_)) => {}
        Op::PutNeighbour { mac, .. } => add("mac", mac.to_string()),
        Op::PutFdb { destination, .. } => add("destination", destination.to_string()),
        Op::AddRoute(route) | Op::ReplaceRoute(route) if Object::Route(route.destination) == *object => {
            add("route", route.to_string());
        }
        // One that goes with another one counts as no other wish.
        Op::SetSysctl { key, value } if Object::Sysctl(key.clone()) == *object => add("value", value.clone()),
        Op::Nft(transaction) => {
            for operation in &transaction.operations {
                if let Operation::ReplaceTable(table) = operation {
                    add("table", table.to_string());
                }
            }
        }
        _ => {}
    }
}
