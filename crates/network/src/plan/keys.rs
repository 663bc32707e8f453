//! The keys of the ops of a plan.
//!
//! Pure. Objects that cannot stand without another object count as one with it: nothing on a device can be restored before the device.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::link::LinkChange;
use dataplane::netlink::KernelError;
use dataplane::nft::Operation;
use dataplane::op::{DeviceRoute, Op};
use dataplane::types::{IfName, Prefix};
use reconcile::{DesiredHash, Domain, Keyed};

use super::Conflict;
use crate::hash::fnv;
use crate::key::Key;
use crate::overlay::Desired;

impl Domain for Desired {
    type Key = Key;
    type Op = Op;
    type Error = KernelError;
    type Conflict = Conflict;

    fn keyed(&self, ops: &[Op]) -> Vec<Keyed<Key>> {
        let keys = keys(ops, self);
        ops.iter().zip(keys).map(|(op, key)| Keyed { desired: desired_by(op, &key), key }).collect()
    }

    fn kind(op: &Op) -> &'static str {
        op.kind()
    }

    fn is_removal(op: &Op) -> bool {
        op.is_removal()
    }

    fn is_replacement(op: &Op) -> bool {
        matches!(op, Op::Nft(_))
    }

    /// This node's own part: pods can be wired, even if the route to a peer is missing.
    fn is_essential(op: &Op) -> bool {
        let of_a_peer =
            matches!(op, Op::PutNeighbour { .. } | Op::PutFdb { .. } | Op::AddRoute(_) | Op::ReplaceRoute(_));
        !of_a_peer && !op.is_removal()
    }

    fn is_done_despite(op: &Op, error: &KernelError) -> bool {
        op.is_done_despite(error)
    }
}

/// The key of each op of a plan.
fn keys(ops: &[Op], desired: &Desired) -> Vec<Key> {
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
    // A destination has one route, so every route to it has the same key.
    let carried: BTreeMap<Prefix, &IfName> =
        ops.iter().filter_map(|op| Some((destination(route_of(op)?), on_root(op)?))).collect();
    let key = |op: &Op| {
        if let Some(route) = route_of(op) {
            let destination = destination(route);
            return carried.get(&destination).map_or(Key::Route(destination), |root| Key::Device((*root).clone()));
        }
        match op {
            Op::AddTunnel { name, .. } | Op::AddBridge { name, .. } => {
                Key::Device(roots.get(name).unwrap_or(name).clone())
            }
            Op::SetSysctl { key, .. } => {
                let precondition = desired.preconditions.iter().find(|precondition| precondition.key == *key);
                // A precondition is written because of another sysctl, and never alone.
                let key = precondition.map_or(key.as_str(), |precondition| precondition.before);
                rooted(key).map_or_else(|| Key::Sysctl(key.to_owned()), |root| Key::Device(root.clone()))
            }
            _ => on_root(op).map_or_else(|| Key::of(op), |root| Key::Device(root.clone())),
        }
    };
    ops.iter().map(key).collect()
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

/// The devices that must be restored before anything on them, each with the device under whose key it goes.
fn roots(ops: &[Op]) -> BTreeMap<IfName, IfName> {
    let made: Vec<_> =
        ops.iter().filter_map(|op| if let Op::AddTunnel { name, .. } = op { Some(name) } else { None }).collect();
    let last = ops.iter().rposition(|op| matches!(op, Op::AddTunnel { .. })).unwrap_or(0);
    // A device that is deleted before another is made makes room for the other one.
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

/// The destinations of stepping stones, each with the destination of the route that needs the stepping stone.
fn stones(ops: &[Op]) -> BTreeMap<Prefix, Prefix> {
    let stone = |op: &Op| match op {
        Op::AddRoute(route) | Op::ReplaceRoute(route) if route.onlink => {
            Some((Prefix::host(route.gateway?), route.destination))
        }
        _ => None,
    };
    ops.iter().filter_map(stone).collect()
}

/// What an op wants of the object with this key.
fn desired_by(op: &Op, key: &Key) -> DesiredHash {
    // An entry that merely lies on a device does not change the device.
    let parts = match op {
        Op::SetLink { change: LinkChange { up, mtu, mac, alias, .. }, .. } => {
            let (up, mtu) = (up.map(|up| up.to_string()), mtu.map(|mtu| mtu.to_string()));
            let mac = mac.map(|mac| mac.to_string());
            let parts = [("up", up), ("mtu", mtu), ("mac", mac), ("alias", alias.clone())];
            parts.into_iter().filter_map(|(part, value)| Some((part, value?))).collect()
        }
        Op::AddTunnel { .. } => vec![("device", op.to_string())],
        Op::AddAddress(address) if address.address.is_ipv4() => vec![("IPv4 address", address.to_string())],
        Op::AddAddress(address) => vec![("IPv6 address", address.to_string())],
        _ if matches!(key, Key::Device(_)) => Vec::new(),
        Op::PutNeighbour { mac, .. } => vec![("mac", mac.to_string())],
        Op::PutFdb { destination, .. } => vec![("destination", destination.to_string())],
        Op::AddRoute(route) | Op::ReplaceRoute(route) if Key::Route(route.destination) == *key => {
            vec![("route", route.to_string())]
        }
        // A precondition says nothing of the other sysctl's value.
        Op::SetSysctl { key: name, value } if Key::Sysctl(name.clone()) == *key => vec![("value", value.clone())],
        Op::Nft(transaction) => {
            let table = |operation: &Operation| match operation {
                Operation::ReplaceTable(table) => Some(("table", table.to_string())),
                _ => None,
            };
            transaction.operations.iter().filter_map(table).collect()
        }
        _ => Vec::new(),
    };
    parts.into_iter().map(|(part, value)| (part, fnv(value.as_bytes()))).collect()
}

#[cfg(test)]
mod tests;
