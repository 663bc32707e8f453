//! By what each object of ours in the kernel is known.
//!
//! Pure. One key stands for an object everywhere: among the dirty keys, the deviations, the repairs and the problems.

use std::fmt;
use std::net::IpAddr;

use dataplane::nft::{self, Operation, TableId, Transaction};
use dataplane::op::Op;
use dataplane::types::{IfName, Mac, Prefix};
use reconcile::ObjectKey;

/// An object in the kernel, whatever its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
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

impl ObjectKey for Key {
    fn kind(&self) -> &'static str {
        self.kind_and_remedy().0
    }

    fn remedy(&self) -> &'static str {
        self.kind_and_remedy().1
    }

    fn is_incremental(&self) -> bool {
        matches!(self, Key::Neighbour(..) | Key::Fdb(..) | Key::Route(_))
    }
}

impl Key {
    /// The kind of object, and how a person finds out who changes the object.
    fn kind_and_remedy(&self) -> (&'static str, &'static str) {
        match self {
            Key::Device(_) => ("device", "`ip monitor link address`"),
            Key::Address(..) => ("address", "`ip monitor address`"),
            Key::Neighbour(..) => ("neighbour", "`ip monitor neighbour`"),
            Key::Fdb(..) => ("fdb", "`bridge monitor fdb`"),
            Key::Route(_) => ("route", "`ip monitor route`"),
            Key::Sysctl(_) => ("sysctl", "look into /etc/sysctl.d and what else sets it"),
            Key::Table(_) => ("table", "`nft monitor`"),
            Key::Rules(..) => ("rules", "`nft monitor`"),
        }
    }

    /// The key of one op, whatever else is in its plan.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::AddTunnel { name, .. }
            | Op::AddBridge { name, .. }
            | Op::SetPort { name, .. }
            | Op::SetHairpin(name)
            | Op::SetLink { name, .. }
            | Op::DeleteLink(name) => Key::Device(name.clone()),
            Op::AddAddress(a) | Op::DeleteAddress(a) => Key::Address(a.device.clone(), a.address),
            Op::PutNeighbour { device, address, .. } | Op::DeleteNeighbour { device, address } => {
                Key::Neighbour(device.clone(), *address)
            }
            Op::PutFdb { device, mac, .. } | Op::DeleteFdb { device, mac, .. } => Key::Fdb(device.clone(), *mac),
            Op::AddRoute(route) | Op::ReplaceRoute(route) | Op::DeleteRoute(route) => Key::Route(route.destination),
            Op::SetSysctl { key, .. } => Key::Sysctl(key.clone()),
            Op::Nft(transaction) => of_nft(transaction),
        }
    }
}

/// The operations of one transaction are about one object; a removal of several objects counts as the first.
fn of_nft(transaction: &Transaction) -> Key {
    match transaction.operations.as_slice() {
        [
            Operation::AddRule { table, chain, .. }
            | Operation::InsertRule { table, chain, .. }
            | Operation::DeleteRule { table, chain, .. },
            ..,
        ] => Key::Rules(table.clone(), chain.clone()),
        [other, ..] => Key::Table(other.table().clone()),
        // An empty transaction changes nothing.
        [] => Key::Table(TableId::new(nft::TableFamily::Inet, "")),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Device(name) => write!(f, "device {name}"),
            Key::Address(device, address) => write!(f, "address {address} of {device}"),
            Key::Neighbour(device, address) => write!(f, "neighbour {address} on {device}"),
            Key::Fdb(device, mac) => write!(f, "forwarding entry {mac} on {device}"),
            Key::Route(destination) => write!(f, "route {destination}"),
            Key::Sysctl(key) => write!(f, "sysctl {key}"),
            Key::Table(table) => write!(f, "nftables table {} {}", table.family, table.name),
            Key::Rules(table, chain) => {
                write!(f, "netd's rules in nftables chain {} {} {chain}", table.family, table.name)
            }
        }
    }
}
