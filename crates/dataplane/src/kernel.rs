//! What a daemon needs of the kernel, as a small trait: [`Linux`] is the running kernel, [`crate::fake::Fake`] the one for
//! fault injection.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::{self, Address};
use crate::error::KernelError;
use crate::link::{self, Device, Link, Tunnel};
use crate::neighbour::{self, Fdb, Neighbour};
use crate::netlink::{PER_SEND, Request, RouteSocket};
use crate::nft;
use crate::op::Op;
use crate::route::Route;
use crate::sysctl;
use crate::types::{Family, IfName};
use crate::xtables;

/// Reads what is there and applies changes.
pub trait Kernel {
    /// Every link.
    fn links(&mut self) -> Result<Vec<Link>, KernelError>;
    /// Every address.
    fn addresses(&mut self) -> Result<Vec<Address>, KernelError>;
    /// The routes of the main table, of one family, each with the source address that it prefers.
    fn routes_with_sources(&mut self, family: Family) -> Result<Vec<(Route, Option<IpAddr>)>, KernelError>;
    /// The routes of the main table, of one family.
    fn routes(&mut self, family: Family) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes_with_sources(family)?.into_iter().map(|(route, _)| route).collect())
    }
    /// The neighbour entries of one link, of one family.
    fn neighbours(&mut self, index: u32, family: Family) -> Result<Vec<Neighbour>, KernelError>;
    /// The forwarding entries of one tunnel device.
    fn fdb(&mut self, index: u32) -> Result<Vec<Fdb>, KernelError>;
    /// One nftables table, whole; `None` where there is none of that name.
    fn table(&mut self, id: &nft::TableId) -> Result<Option<nft::Table>, KernelError>;
    /// Every chain of nftables that the kernel calls itself.
    fn base_chains(&mut self) -> Result<Vec<nft::BaseChainFacts>, KernelError>;
    /// The rules of one chain; none where there is no such chain.
    fn rules(&mut self, table: &nft::TableId, chain: &str) -> Result<Vec<nft::RuleWithHandle>, KernelError>;
    /// What iptables-legacy does with forwarded packets; `None` where it is not in use.
    fn legacy_forward(&mut self, family: Family) -> Result<Option<xtables::Forward>, KernelError>;
    /// Whether there can be devices of the tunnel's kind. Asks for the kernel's module where it is not loaded.
    fn has_kind(&mut self, tunnel: &Tunnel) -> Result<bool, KernelError>;
    /// A sysctl's value; the key with slashes.
    fn sysctl(&mut self, key: &str) -> Result<String, KernelError>;
    /// Carries out `ops` in their order; one that fails does not stop the others. An outcome for each.
    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>>;
}

/// The running kernel, in the network namespace of the thread that opened it.
///
/// Sysctls and iptables-legacy's tables are those of the calling thread's namespace: use it where it was opened.
#[derive(Debug)]
pub struct Linux {
    route: RouteSocket,
    nft: nft::Socket,
}

impl Linux {
    /// Opens the sockets in the calling thread's network namespace.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { route: RouteSocket::open()?, nft: nft::Socket::open()? })
    }

    /// The port of the nftables socket: notifications of what is changed through it bear it.
    pub fn nft_port(&self) -> u32 {
        self.nft.port()
    }

    /// The routing-netlink socket, for what the trait does not offer.
    pub fn socket(&mut self) -> &mut RouteSocket {
        &mut self.route
    }
}

impl Kernel for Linux {
    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.route.links()
    }

    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        self.route.addresses(None, None)
    }

    fn routes_with_sources(&mut self, family: Family) -> Result<Vec<(Route, Option<IpAddr>)>, KernelError> {
        self.route.routes_with_sources(family)
    }

    fn neighbours(&mut self, index: u32, family: Family) -> Result<Vec<Neighbour>, KernelError> {
        self.route.neighbours(index, family)
    }

    fn fdb(&mut self, index: u32) -> Result<Vec<Fdb>, KernelError> {
        self.route.fdb(index)
    }

    fn table(&mut self, id: &nft::TableId) -> Result<Option<nft::Table>, KernelError> {
        Ok(self.nft.read_table(id.family, &id.name)?)
    }

    fn base_chains(&mut self) -> Result<Vec<nft::BaseChainFacts>, KernelError> {
        Ok(self.nft.base_chains()?)
    }

    fn rules(&mut self, table: &nft::TableId, chain: &str) -> Result<Vec<nft::RuleWithHandle>, KernelError> {
        Ok(self.nft.read_rules(table.family, &table.name, chain)?)
    }

    fn legacy_forward(&mut self, family: Family) -> Result<Option<xtables::Forward>, KernelError> {
        Ok(xtables::forward(family)?)
    }

    fn has_kind(&mut self, tunnel: &Tunnel) -> Result<bool, KernelError> {
        use nix::libc::{EEXIST, EINVAL, EOPNOTSUPP};
        match self.route.request(link::probe(tunnel)) {
            Err(error) if error.errno() == Some(EOPNOTSUPP) => Ok(false),
            Err(error) if ![Some(EINVAL), Some(EEXIST)].contains(&error.errno()) => Err(error),
            _ => Ok(true),
        }
    }

    fn sysctl(&mut self, key: &str) -> Result<String, KernelError> {
        sysctl::read(key)
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        Application { kernel: self, indexes: HashMap::new(), waiting: Vec::new(), outcomes: Vec::new() }.run(ops)
    }
}

/// One run over a list of ops: requests wait until something must happen after them.
struct Application<'k> {
    kernel: &'k mut Linux,
    /// The index of each device that was looked up; `None` where there is no such device.
    indexes: HashMap<IfName, Option<u32>>,
    /// Requests not sent yet, with the place of their op: no more than go out at once.
    waiting: Vec<(usize, Request)>,
    /// The outcome of each op; an op succeeds where the kernel does not refuse it.
    outcomes: Vec<Result<(), KernelError>>,
}

impl Application<'_> {
    fn run(mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        self.outcomes = ops.iter().map(|_| Ok(())).collect();
        for (place, op) in ops.iter().enumerate() {
            match op {
                Op::SetSysctl { key, value } => {
                    self.flush();
                    self.outcomes[place] = sysctl::write(key, value);
                }
                Op::Nft(transaction) => {
                    self.flush();
                    self.outcomes[place] = self.kernel.nft.apply(&transaction.operations).map_err(Into::into);
                }
                _ => match self.request(op) {
                    Ok(request) => {
                        self.waiting.push((place, request));
                        if self.waiting.len() == PER_SEND {
                            self.flush();
                        }
                    }
                    Err(error) => self.outcomes[place] = Err(error),
                },
            }
        }
        self.flush();
        self.outcomes
    }

    fn flush(&mut self) {
        let (places, requests): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        for (place, outcome) in places.into_iter().zip(self.kernel.route.batch(&requests)) {
            self.outcomes[place] = outcome;
        }
    }

    fn request(&mut self, op: &Op) -> Result<Request, KernelError> {
        if let Op::AddTunnel { name, .. } | Op::AddBridge { name, .. } | Op::DeleteLink(name) = op {
            self.indexes.remove(name);
        }
        Ok(match op {
            Op::AddTunnel { name, tunnel, mac, mtu, .. } => link::add_tunnel(name, tunnel, *mac, *mtu),
            Op::AddBridge { name, mac, mtu } => link::add_bridge(name, *mac, Some(*mtu)),
            Op::SetHairpin(name) => link::set_hairpin(Device::Name(name)),
            Op::SetPort { name, bridge } => link::set_master(Device::Name(name), self.index(bridge)?),
            Op::DeleteLink(name) => link::delete(Device::Name(name)),
            Op::SetLink { name, change } => link::set(Device::Name(name), change),
            Op::AddAddress(a) => address::add(self.index(&a.device)?, a.address, a.prefix_len),
            Op::DeleteAddress(a) => address::delete(self.index(&a.device)?, a.address, a.prefix_len),
            Op::PutNeighbour { device, address, mac } => neighbour::put(self.index(device)?, *address, *mac),
            Op::DeleteNeighbour { device, address } => neighbour::delete(self.index(device)?, *address),
            Op::PutFdb { device, mac, destination } => neighbour::put_fdb(self.index(device)?, *mac, *destination),
            Op::DeleteFdb { device, mac, destination } => {
                neighbour::delete_fdb(self.index(device)?, *mac, *destination)
            }
            Op::AddRoute(route) => route.with_index(self.index(&route.device)?).add(),
            Op::ReplaceRoute(route) => route.with_index(self.index(&route.device)?).replace(),
            Op::DeleteRoute(route) => route.with_index(self.index(&route.device)?).delete(),
            Op::SetSysctl { .. } | Op::Nft(_) => unreachable!("carried out by run"),
        })
    }

    fn index(&mut self, device: &IfName) -> Result<u32, KernelError> {
        if !self.indexes.contains_key(device) {
            // The device may be one that a waiting request makes.
            self.flush();
            let index = self.kernel.route.index(device)?;
            self.indexes.insert(device.clone(), index);
        }
        self.indexes[device].ok_or_else(|| KernelError::Missing(format!("link {device}")))
    }
}

#[cfg(test)]
mod tests;
