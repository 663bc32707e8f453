//! A kernel in memory, for fault injection: what the running one refuses only on a bad day, this one refuses on request.
//!
//! It keeps the rules of the kernel that plans depend on: what needs a device fails without one, what is on a device goes
//! with it, a route is added only where none has its destination and metric, one VXLAN device has a VNI, port and family,
//! a new hardware address loses a device's neighbours, and the last IPv4 address takes the IPv4 routes with it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::Address;
use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::link::{Kind, Link, LinkChange, Tunnel};
use crate::neighbour::{Fdb, Neighbour};
use crate::netlink_message::Refusal;
use crate::nft;
use crate::op::{DeviceAddress, Op};
use crate::route::Route;
use crate::types::{Family, IfName, PerFamily};
use crate::xtables;

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
    /// What iptables-legacy does with forwarded packets.
    pub legacy_forward: PerFamily<xtables::Forward>,
    /// Sysctls by key.
    pub sysctls: BTreeMap<String, String>,
    /// Ops whose printed form holds one of these texts are refused with `EPERM`.
    pub refuse: Vec<String>,
    /// Kinds of tunnel devices that it does not have.
    pub lacks: Vec<&'static str>,
    /// How many ops it has been given.
    pub applied: usize,
    last_index: u32,
    /// The handles of the rules of each chain that the current list of ops changes, as they were read before it; 0 for new
    /// ones.
    handles: BTreeMap<(nft::TableId, String), Vec<u64>>,
}

fn refused(errno: i32) -> KernelError {
    Refusal { errno, reason: None }.into()
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
            Op::AddTunnel { name, tunnel, mac, mtu, .. } => {
                let taken = |link: &Link| link.tunnel().is_some_and(|other| other.excludes(tunnel));
                if self.lacks.contains(&tunnel.kind()) {
                    return Err(refused(nix::libc::EOPNOTSUPP));
                }
                if self.index(name).is_ok() || self.links.iter().any(taken) {
                    return Err(refused(nix::libc::EEXIST));
                }
                let index = self.add_link(name, mtu.get());
                if let Some(link) = self.links.iter_mut().find(|link| link.index == index) {
                    link.kind = Kind::Tunnel(tunnel.clone());
                    link.mac = *mac;
                    link.lower = tunnel.lower();
                }
            }
            Op::AddBridge { name, mac, mtu } => {
                if self.index(name).is_ok() {
                    return Err(refused(nix::libc::EEXIST));
                }
                let index = self.add_link(name, mtu.get());
                if let Some(link) = self.links.iter_mut().find(|link| link.index == index) {
                    (link.kind, link.mac) = (Kind::Bridge, Some(*mac));
                }
            }
            Op::SetHairpin(name) => {
                self.index(name)?;
            }
            Op::SetPort { name, bridge } => {
                let master = self.index(bridge)?;
                let port = self.links.iter_mut().find(|link| link.name == *name);
                port.ok_or_else(|| refused(nix::libc::ENODEV))?.master = Some(master);
            }
            Op::SetLink { name, change } => self.set_link(name, change)?,
            Op::DeleteLink(name) => {
                let index = self.index(name)?;
                self.links.retain(|link| link.index != index);
                self.addresses.retain(|address| address.index != index);
                self.neighbours.retain(|entry| entry.index != index);
                self.fdb.retain(|entry| entry.index != index);
                self.routes.retain(|route| route.index != index);
                self.sysctls.retain(|key, _| device_of(key) != Some(name.as_str()));
            }
            Op::AddAddress(address) => self.add_address(address)?,
            Op::DeleteAddress(address) => self.delete_address(address)?,
            Op::SetSysctl { key, value } => {
                if let Some(device) = device_of(key).filter(|device| !["all", "default"].contains(device))
                    && !self.links.iter().any(|link| link.name.as_str() == device)
                {
                    return Err(KernelError::Missing(format!("sysctl {key}")));
                }
                self.sysctls.insert(key.clone(), value.clone());
            }
            Op::Nft(transaction) => self.commit(transaction)?,
            entry => self.change_entry(entry)?,
        }
        Ok(())
    }

    fn add_address(&mut self, new: &DeviceAddress) -> Result<(), KernelError> {
        let index = self.index(&new.device)?;
        let DeviceAddress { address, prefix_len, .. } = *new;
        // IPv6 has an address once on a link, IPv4 once for each prefix length.
        let same = |have: &Address| {
            (have.index, have.address) == (index, address) && (address.is_ipv6() || have.prefix_len == prefix_len)
        };
        if self.addresses.iter().any(same) {
            return Err(refused(nix::libc::EEXIST));
        }
        self.addresses.push(global_address(index, address, prefix_len));
        Ok(())
    }

    fn delete_address(&mut self, old: &DeviceAddress) -> Result<(), KernelError> {
        let index = self.index(&old.device)?;
        let is_old =
            |have: &Address| (have.index, have.address, have.prefix_len) == (index, old.address, old.prefix_len);
        take(&mut self.addresses, is_old)?;
        let of_v4 = |have: &Address| have.index == index && have.address.is_ipv4();
        if old.address.is_ipv4() && !self.addresses.iter().any(of_v4) {
            self.routes.retain(|route| route.index != index || route.destination.family() == Family::V6);
            self.neighbours.retain(|entry| entry.index != index || entry.address.is_ipv6());
        }
        Ok(())
    }

    fn set_link(&mut self, name: &IfName, change: &LinkChange) -> Result<(), KernelError> {
        let index = self.index(name)?;
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            link.up = change.up.unwrap_or(link.up);
            link.mtu = change.mtu.map_or(link.mtu, crate::types::Mtu::get);
            link.alias = change.alias.clone().or_else(|| link.alias.take());
            link.mac = change.mac.or(link.mac);
        }
        if change.mac.is_some() {
            self.neighbours.retain(|entry| entry.index != index);
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
                if !self.takes_next_hop(&route) {
                    return Err(refused(nix::libc::EINVAL));
                }
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

    /// False for an IPv6 next hop to which another route than the default one leads out of another link.
    fn takes_next_hop(&self, new: &Route) -> bool {
        let Some(gateway) = new.gateway.filter(|gateway| new.onlink && gateway.is_ipv6()) else { return true };
        let to = |route: &&Route| !route.destination.is_default() && route.destination.contains(gateway);
        let best = self.routes.iter().filter(to).min_by_key(|route| (Reverse(route.destination.len()), route.metric));
        best.is_none_or(|route| route.index == new.index || !route.kind.is_unicast())
    }

    fn commit(&mut self, transaction: &nft::Transaction) -> Result<(), KernelError> {
        let before = (self.tables.clone(), self.handles.clone());
        let outcome = transaction.operations.iter().try_for_each(|operation| self.change_table(operation));
        if outcome.is_err() {
            (self.tables, self.handles) = before;
        }
        outcome
    }

    fn change_table(&mut self, operation: &nft::Operation) -> Result<(), KernelError> {
        match operation {
            nft::Operation::ReplaceTable(table) => {
                self.tables.insert(table.id.clone(), table.clone());
                Ok(())
            }
            nft::Operation::DeleteTable(id) => {
                self.tables.remove(id).map(drop).ok_or_else(|| KernelError::Missing(format!("table {}", id.name)))
            }
            nft::Operation::AddRule { table, chain, rule } => {
                let (rules, handles) = self.chain(table, chain)?;
                rules.push(rule.clone());
                handles.push(0);
                Ok(())
            }
            nft::Operation::DeleteRule { table, chain, handle } => {
                let (rules, handles) = self.chain(table, chain)?;
                let place = handles.iter().position(|have| have == handle);
                let place = place.ok_or_else(|| refused(nix::libc::ENOENT))?;
                rules.remove(place);
                handles.remove(place);
                Ok(())
            }
            nft::Operation::AddElements(added) => {
                self.set(&added.table, &added.set)?.elements.extend(added.elements.clone());
                Ok(())
            }
            nft::Operation::AddRecords(added) => {
                self.set(&added.table, &added.set)?.elements.extend(added.records.iter().map(|one| one.to_element()));
                Ok(())
            }
            nft::Operation::DeleteRecords(removed) => {
                let present = &mut self.set(&removed.table, &removed.set)?.elements;
                let mut keys = removed.records.iter().map(|one| one.to_element().0);
                keys.all(|key| present.remove(&key).is_some()).then_some(()).ok_or_else(|| refused(nix::libc::ENOENT))
            }
            nft::Operation::AddSet { table, name, set } => {
                let sets = &mut self.nft_table(table)?.sets;
                sets.entry(name.clone())
                    .or_insert_with(|| set.without_elements())
                    .elements
                    .extend(set.elements.clone());
                Ok(())
            }
            nft::Operation::DeleteSet { table, name } => {
                self.nft_table(table)?.sets.remove(name).map(drop).ok_or_else(|| refused(nix::libc::ENOENT))
            }
            nft::Operation::AddChain { table, name, chain } => {
                let chains = &mut self.nft_table(table)?.chains;
                let present =
                    chains.entry(name.clone()).or_insert_with(|| nft::Chain { rules: Vec::new(), ..chain.clone() });
                present.rules.extend(chain.rules.clone());
                Ok(())
            }
            nft::Operation::FlushChain { table, name } => {
                let (rules, handles) = self.chain(table, name)?;
                rules.clear();
                handles.clear();
                Ok(())
            }
            nft::Operation::DeleteElements(removed) => {
                let present = &mut self.set(&removed.table, &removed.set)?.elements;
                let all_there = removed.elements.keys().all(|key| present.remove(key).is_some());
                all_there.then_some(()).ok_or_else(|| refused(nix::libc::ENOENT))
            }
            _ => Err(refused(nix::libc::EOPNOTSUPP)),
        }
    }

    fn nft_table(&mut self, id: &nft::TableId) -> Result<&mut nft::Table, KernelError> {
        self.tables.get_mut(id).ok_or_else(|| refused(nix::libc::ENOENT))
    }

    fn set(&mut self, table: &nft::TableId, set: &str) -> Result<&mut nft::Set, KernelError> {
        self.nft_table(table)?.sets.get_mut(set).ok_or_else(|| refused(nix::libc::ENOENT))
    }

    /// A chain's rules, with the handles by which they were read last.
    fn chain(
        &mut self,
        table: &nft::TableId,
        chain: &str,
    ) -> Result<(&mut Vec<nft::Rule>, &mut Vec<u64>), KernelError> {
        let found = self.tables.get_mut(table).and_then(|table| table.chains.get_mut(chain));
        let rules = found.map(|chain| &mut chain.rules).ok_or_else(|| refused(nix::libc::ENOENT))?;
        let read = || (1..).take(rules.len()).collect();
        let handles = self.handles.entry((table.clone(), chain.to_owned())).or_insert_with(read);
        Ok((rules, handles))
    }
}

/// The device that a sysctl belongs to.
fn device_of(key: &str) -> Option<&str> {
    key.strip_prefix("net/ipv4/conf/").or_else(|| key.strip_prefix("net/ipv6/conf/"))?.split('/').next()
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

    fn routes_with_sources(&mut self, family: Family) -> Result<Vec<(Route, Option<IpAddr>)>, KernelError> {
        let of_family = self.routes.iter().filter(|route| route.destination.family() == family);
        Ok(of_family.map(|route| (*route, None)).collect())
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

    fn rules(&mut self, table: &nft::TableId, chain: &str) -> Result<Vec<nft::RuleWithHandle>, KernelError> {
        let rules = self.tables.get(table).and_then(|table| table.chains.get(chain)).map(|chain| chain.rules.clone());
        let placed = rules.unwrap_or_default().into_iter().zip(1..);
        Ok(placed.map(|(rule, handle)| nft::RuleWithHandle { handle, rule }).collect())
    }

    fn legacy_forward(&mut self, family: Family) -> Result<Option<xtables::Forward>, KernelError> {
        Ok(self.legacy_forward.get(family).cloned())
    }

    fn has_kind(&mut self, tunnel: &Tunnel) -> Result<bool, KernelError> {
        Ok(!self.lacks.contains(&tunnel.kind()))
    }

    fn sysctl(&mut self, key: &str) -> Result<String, KernelError> {
        self.sysctls.get(key).cloned().ok_or_else(|| KernelError::Missing(format!("sysctl {key}")))
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        self.applied += ops.len();
        self.handles.clear();
        ops.iter().map(|op| self.carry_out(op)).collect()
    }
}

/// An address as an operator gives it to a link: for good, and usable at once.
pub fn global_address(index: u32, address: IpAddr, prefix_len: u8) -> Address {
    Address {
        index,
        address,
        prefix_len,
        global: true,
        temporary: false,
        deprecated: false,
        tentative: false,
        duplicate: false,
        permanent: true,
    }
}

#[cfg(test)]
mod tests;
