//! A kernel in memory, for fault injection: what the running one refuses only on a bad day, this one refuses on request.
//!
//! It keeps the rules of the kernel that plans depend on: what needs a device fails without one, what is on a device goes
//! with it, and a route is added only where none has its destination and metric.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::kernel::Kernel;
use crate::link::{Kind, Link};
use crate::neighbour::{Fdb, Neighbour};
use crate::netlink::KernelError;
use crate::nft;
use crate::op::{LinkChange, Op};
use crate::route::Route;
use crate::words::{Family, IfName};

/// The kernel in memory.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    /// Links.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Neighbour entries.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding entries.
    pub fdb: Vec<Fdb>,
    /// nftables.
    pub tables: BTreeMap<nft::TableId, nft::Table>,
    /// Sysctls by key.
    pub sysctls: BTreeMap<String, String>,
    /// Ops whose printed form holds one of these texts are refused with `EPERM`.
    pub refuse: Vec<String>,
    /// How many ops it has been given.
    pub applied: usize,
    last_index: u32,
}

fn refused(errno: i32) -> KernelError {
    KernelError::Refused { errno, reason: None }
}

impl Fake {
    /// Adds a link of another kind, such as the underlay; its index.
    pub fn add_link(&mut self, name: &IfName, mtu: u32) -> u32 {
        self.last_index = self.last_index.max(self.links.iter().map(|link| link.index).max().unwrap_or(0)) + 1;
        let kind = Kind::Other(String::new());
        self.links.push(Link {
            index: self.last_index,
            name: name.clone(),
            up: true,
            carrier: true,
            mtu,
            mac: None,
            master: None,
            lower: None,
            alias: None,
            kind,
            port: None,
        });
        self.last_index
    }

    fn index(&self, name: &IfName) -> Result<u32, KernelError> {
        let found = self.links.iter().find(|link| link.name == *name);
        found.map(|link| link.index).ok_or_else(|| KernelError::Missing(format!("link {name}")))
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), KernelError> {
        let text = op.to_string();
        if self.refuse.iter().any(|part| text.contains(part)) {
            return Err(refused(nix::libc::EPERM));
        }
        match op {
            Op::AddVxlan { name, vxlan, mac, mtu, .. } => {
                if self.index(name).is_ok() {
                    return Err(refused(nix::libc::EEXIST));
                }
                let index = self.add_link(name, mtu.get());
                if let Some(link) = self.links.iter_mut().find(|link| link.index == index) {
                    link.kind = Kind::Vxlan(vxlan.clone());
                    link.mac = Some(*mac);
                }
            }
            Op::SetLink { name, change } => self.set_link(name, change)?,
            Op::DeleteLink(name) => {
                let index = self.index(name)?;
                self.links.retain(|link| link.index != index);
                self.addresses.retain(|address| address.index != index);
                self.neighbours.retain(|entry| entry.index != index);
                self.fdb.retain(|entry| entry.index != index);
                self.routes.retain(|route| route.index != index);
            }
            Op::AddAddress(a) => {
                let index = self.index(&a.device)?;
                self.addresses.push(Address {
                    index,
                    address: a.address,
                    prefix_len: a.prefix_len,
                    global: true,
                    tentative: false,
                    temporary: false,
                    deprecated: false,
                    permanent: true,
                });
            }
            Op::DeleteAddress(a) => {
                let index = self.index(&a.device)?;
                take(&mut self.addresses, |have| have.index == index && have.address == a.address)?;
            }
            Op::SetSysctl { key, value } => {
                self.sysctls.insert(key.clone(), value.clone());
            }
            Op::Nft(change) => self.change_table(change)?,
            entry => self.change_entry(entry)?,
        }
        Ok(())
    }

    fn set_link(&mut self, name: &IfName, change: &LinkChange) -> Result<(), KernelError> {
        let index = self.index(name)?;
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            link.up = change.up.unwrap_or(link.up);
            link.mtu = change.mtu.map_or(link.mtu, crate::words::Mtu::get);
            link.alias = change.alias.clone().or_else(|| link.alias.take());
            link.mac = change.mac.or(link.mac);
        }
        if change.up == Some(false) {
            // As the kernel does: routes and neighbours go, addresses and forwarding entries stay.
            self.routes.retain(|route| route.index != index);
            self.neighbours.retain(|entry| entry.index != index);
        }
        Ok(())
    }

    fn change_entry(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::PutNeighbour { device, address, mac } => {
                let index = self.index(device)?;
                self.neighbours.retain(|have| have.index != index || have.address != *address);
                self.neighbours.push(Neighbour { index, address: *address, mac: Some(*mac), permanent: true });
            }
            Op::DeleteNeighbour { device, address } => {
                let index = self.index(device)?;
                take(&mut self.neighbours, |have| have.index == index && have.address == *address)?;
            }
            Op::PutFdb { device, mac, destination } => {
                let index = self.index(device)?;
                self.fdb.retain(|have| have.index != index || have.mac != *mac);
                self.fdb.push(Fdb { index, mac: *mac, destination: *destination, permanent: true });
            }
            Op::DeleteFdb { device, mac, destination } => {
                let index = self.index(device)?;
                take(&mut self.fdb, |have| (have.index, have.mac, have.destination) == (index, *mac, *destination))?;
            }
            Op::AddRoute(route) | Op::ReplaceRoute(route) => {
                let route = route.with_index(self.index(&route.device)?);
                let same = |have: &Route| (have.destination, have.metric) == (route.destination, route.metric);
                if matches!(op, Op::AddRoute(_)) && self.routes.iter().any(same) {
                    return Err(refused(nix::libc::EEXIST));
                }
                self.routes.retain(|have| !same(have));
                self.routes.push(route);
            }
            Op::DeleteRoute(route) => {
                let route = route.with_index(self.index(&route.device)?);
                take(&mut self.routes, |have| *have == route)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn change_table(&mut self, change: &nft::Change) -> Result<(), KernelError> {
        match change {
            nft::Change::ReplaceTable(table) => {
                self.tables.insert(table.id.clone(), table.clone());
                Ok(())
            }
            nft::Change::DeleteTable(id) => {
                self.tables.remove(id).map(drop).ok_or_else(|| KernelError::Missing(format!("table {}", id.name)))
            }
            _ => Err(refused(nix::libc::EOPNOTSUPP)),
        }
    }
}

fn take<T>(from: &mut Vec<T>, which: impl Fn(&T) -> bool) -> Result<(), KernelError> {
    let place = from.iter().position(which).ok_or_else(|| refused(nix::libc::ENOENT))?;
    from.swap_remove(place);
    Ok(())
}

impl Kernel for Fake {
    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        Ok(self.links.clone())
    }

    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        Ok(self.addresses.clone())
    }

    fn routes(&mut self, family: Family) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes.iter().filter(|route| route.destination.family() == family).copied().collect())
    }

    fn neighbours(&mut self, index: u32, family: Family) -> Result<Vec<Neighbour>, KernelError> {
        let of_link = |entry: &&Neighbour| entry.index == index && Family::of(entry.address) == family;
        Ok(self.neighbours.iter().filter(of_link).copied().collect())
    }

    fn fdb(&mut self, index: u32) -> Result<Vec<Fdb>, KernelError> {
        Ok(self.fdb.iter().filter(|entry| entry.index == index).copied().collect())
    }

    fn table(&mut self, id: &nft::TableId) -> Result<Option<nft::Table>, KernelError> {
        Ok(self.tables.get(id).cloned())
    }

    fn base_chains(&mut self) -> Result<Vec<nft::BaseChainFacts>, KernelError> {
        let chains = self.tables.iter().flat_map(|(id, table)| {
            table.chains.iter().filter_map(|(name, chain)| {
                let base = chain.base.clone()?;
                Some(nft::BaseChainFacts { table: id.clone(), chain: name.clone(), base })
            })
        });
        Ok(chains.collect())
    }

    fn rules(&mut self, table: &nft::TableId, chain: &str) -> Result<Vec<nft::Placed>, KernelError> {
        let rules = self.tables.get(table).and_then(|table| table.chains.get(chain)).map(|chain| chain.rules.clone());
        let placed = rules.unwrap_or_default().into_iter().zip(1..);
        Ok(placed.map(|(rule, handle)| nft::Placed { handle, rule }).collect())
    }

    fn sysctl(&mut self, key: &str) -> Result<String, KernelError> {
        self.sysctls.get(key).cloned().ok_or_else(|| KernelError::Missing(format!("sysctl {key}")))
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        self.applied += ops.len();
        ops.iter().map(|op| self.carry_out(op)).collect()
    }
}
