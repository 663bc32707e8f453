//! What kube-proxy leaves of its mode ipvs: virtual servers, the device with their addresses, and the sets that its chains use.
//!
//! IPVS has virtual servers of other programs too, such as keepalived. kube-proxy's are those whose address is on its device, and those
//! that its sets name: node ports, and addresses that the node has on another device.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use dataplane::error::KernelError;
use dataplane::ipset::{self, IpSets, Member};
use dataplane::ipvs::{Ipvs, VirtualServer};
use dataplane::link::{self, Device};
use dataplane::netlink::RouteSocket;
use dataplane::nft::protocol;
use dataplane::types::{Family, IfName};

/// The device.
const DEVICE: IfName = IfName::constant("kube-ipvs0");
/// The beginnings of the names of sets, the longer one for IPv6.
const PREFIXES: [&str; 2] = ["KUBE-6-", "KUBE-"];
/// As many bytes of a name are used (`IPSET_MAXNAMELEN`).
const NAME_BYTES: usize = 31;
/// The rest of the names. kube-router has sets with these beginnings too.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];
/// Those that name virtual servers, with the protocol of those that hold ports alone.
const OF_SERVERS: [(&str, Option<u8>); 7] = [
    ("CLUSTER-IP", None),
    ("EXTERNAL-IP", None),
    ("EXTERNAL-IP-LOCAL", None),
    ("LOAD-BALANCER", None),
    ("NODE-PORT-TCP", Some(protocol::TCP)),
    ("NODE-PORT-UDP", Some(protocol::UDP)),
    ("NODE-PORT-SCTP-HASH", None),
];

/// What kube-proxy has left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The number of the device.
    device: Option<u32>,
    servers: Vec<VirtualServer>,
    sets: Vec<String>,
}

/// How much was removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    pub(super) servers: usize,
    pub(super) sets: usize,
}

/// True where kube-proxy's device is there.
pub(super) fn has_device() -> bool {
    link::index_of(&DEVICE).is_some()
}

/// Reads what kube-proxy has left.
pub(super) fn read() -> Result<Found, KernelError> {
    let device = link::index_of(&DEVICE);
    let mut ip_sets = IpSets::open()?;
    let names = ip_sets.as_mut().map(IpSets::names).transpose()?.unwrap_or_default();
    let mut found =
        Found { device, servers: Vec::new(), sets: names.into_iter().filter(|name| is_own(name)).collect() };
    if found.is_empty() {
        return Ok(found);
    }
    let servers = Ipvs::open()?.map(|mut ipvs| ipvs.servers()).transpose()?.unwrap_or_default();
    if servers.is_empty() {
        return Ok(found);
    }
    let mut served = Served::default();
    if let Some(index) = device {
        let addresses = RouteSocket::open()?.addresses(Some(index), None)?;
        served.addresses.extend(addresses.into_iter().map(|address| address.address));
    }
    for name in &found.sets {
        if let Some(((family, protocol), sets)) = of_servers(name).zip(ip_sets.as_mut()) {
            served.extend(family, protocol, &sets.members(name)?);
        }
    }
    found.servers = servers.into_iter().filter(|server| served.has(server)).collect();
    Ok(found)
}

impl Found {
    /// True where nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.device.is_none() && self.servers.is_empty() && self.sets.is_empty()
    }

    /// Removes virtual servers that carry no connection, and where no other one is left the device and the sets. Gives the reason too
    /// where something stays.
    pub(super) fn remove(self) -> Result<(Removed, Option<String>), KernelError> {
        let mut removed = Removed { servers: 0, sets: 0 };
        let mut connections = 0;
        if let Some(mut ipvs) = Ipvs::open()?.filter(|_| !self.servers.is_empty()) {
            for server in &self.servers {
                // New connections are not IPVS's any more, so that their number only falls.
                let carried = ipvs.connections(server)?;
                if carried == 0 {
                    ipvs.delete(server)?;
                    removed.servers += 1;
                }
                connections += carried;
            }
        }
        if connections > 0 {
            let why =
                format!("IPVS still carries {connections} connections, and their virtual servers stay until these end");
            return Ok((removed, Some(why)));
        }
        if let Some(index) = self.device {
            match RouteSocket::open()?.request(link::delete(Device::Index(index))) {
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        let mut remains = None;
        if let Some(mut sets) = IpSets::open()?.filter(|_| !self.sets.is_empty()) {
            for name in &self.sets {
                match sets.destroy(name) {
                    Ok(()) => removed.sets += 1,
                    // For a moment, rules of nftables that were removed use it too.
                    Err(error @ ipset::Error::InUse(_)) => remains = Some(error.to_string()),
                    Err(ipset::Error::Kernel(error)) => return Err(error),
                }
            }
        }
        Ok((removed, remains))
    }
}

/// The family of a set of kube-proxy's by its name, and the rest of the name.
fn split(name: &str) -> Option<(Family, &'static str)> {
    PREFIXES.iter().zip([Family::V6, Family::V4]).find_map(|(prefix, family)| {
        let rest = name.strip_prefix(prefix)?;
        let cut = |full: &&&str| &full[..full.len().min(NAME_BYTES - prefix.len())] == rest;
        SETS.iter().find(cut).map(|full| (family, *full))
    })
}

fn is_own(name: &str) -> bool {
    split(name).is_some()
}

/// The family of a set that names virtual servers, and the protocol of all of its members.
fn of_servers(name: &str) -> Option<(Family, Option<u8>)> {
    let (family, rest) = split(name)?;
    OF_SERVERS.iter().find(|(full, _)| *full == rest).map(|(_, protocol)| (family, *protocol))
}

/// What kube-proxy has virtual servers for.
#[derive(Debug, Default)]
struct Served {
    addresses: BTreeSet<IpAddr>,
    exact: BTreeSet<(SocketAddr, u8)>,
    /// Node ports.
    ports: BTreeSet<(Family, u8, u16)>,
}

impl Served {
    /// Adds what a set names.
    fn extend(&mut self, family: Family, protocol: Option<u8>, members: &[Member]) {
        for member in members {
            match (member.address, member.protocol.or(protocol), member.port) {
                (Some(address), Some(protocol), Some(port)) => {
                    self.exact.insert((SocketAddr::new(address, port), protocol));
                }
                (None, Some(protocol), Some(port)) => {
                    self.ports.insert((family, protocol, port));
                }
                _ => {}
            }
        }
    }

    fn has(&self, server: &VirtualServer) -> bool {
        let VirtualServer { address, protocol } = *server;
        self.addresses.contains(&address.ip())
            || self.exact.contains(&(address, protocol))
            || self.ports.contains(&(Family::of(address.ip()), protocol, address.port()))
    }
}

#[cfg(test)]
mod tests;
