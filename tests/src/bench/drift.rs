//! Something of netd's is changed by somebody else: how long until it is as it was.
//!
//! Timed from before the request that breaks it, so with the kernel's own time for that: it waits for a grace period
//! before a device is gone.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::kernel::{Kernel, Linux};
use dataplane::link::{self, Change, Device};
use dataplane::netlink::Request;
use dataplane::nft::{self, Table, TableId};
use dataplane::op::Op;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{Family, Mtu, RouteProtocol};
use dataplane::{address, neighbour};

use super::SIZES;
use super::bed::{Backend, Bed, DEVICE, Ghost, Running, device};
use super::ear::{Ear, News};
use super::figures::{Times, head, note};
use crate::deadline::{eventually, seconds};
use crate::failure::{Outcome, Told};

const ROUNDS: u32 = 20;
/// Of one and the same object: what is undone more often within a minute is contested, and put back ever more rarely.
const ROUNDS_OF_ONE: u32 = 10;

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let [few, many] = SIZES;
    head("drift to healed");
    Patient::new(Backend::Vxlan, few)?.all()?;
    Patient::new(Backend::HostGw, few)?.set()?;
    Patient::new(Backend::Vxlan, many)?.entries()?;
    note(
        "each from rest; of accept_ra and disable_ipv6 the kernel does not tell: the next look finds them (--iptables-resync)",
    );
    Ok(())
}

/// The node to which it is done.
struct Patient {
    bed: Bed,
    running: Running,
    ear: Ear,
    kernel: Linux,
    peers: u32,
}

impl Patient {
    fn new(backend: Backend, peers: u32) -> Outcome<Self> {
        Self::on(Bed::new(backend, peers)?, peers)
    }

    fn on(bed: Bed, peers: u32) -> Outcome<Self> {
        let running = bed.start(&[])?;
        let (ear, kernel) = (Ear::open(&bed.namespace)?, bed.kernel()?);
        Ok(Self { bed, running, ear, kernel, peers })
    }

    fn all(mut self) -> Outcome {
        self.entries()?;
        self.devices()?;
        self.rules()?;
        self.accept()?;
        self.forwarding(Family::V4)?;
        self.forwarding(Family::V6)
    }

    /// One peer's entries, another peer each time.
    fn entries(&mut self) -> Outcome {
        let index = self.index()?;
        let elsewhere: IpAddr = [172, 31, 0, 9].into();
        let other = Ghost { mac: 9, ..Ghost::new(0) }.mac();
        let route = |ghost: Ghost, gateway: IpAddr| -> Outcome<Route> {
            let (destination, protocol) = (ghost.subnet()?, RouteProtocol(110));
            Ok(Route {
                destination,
                gateway: Some(gateway),
                index,
                onlink: true,
                protocol,
                metric: 0,
                kind: RouteKind::Unicast,
            })
        };
        let base = |ghost: Ghost| ghost.subnet().map(dataplane::types::Prefix::address);
        self.entry("route deleted", 2, |ghost| Ok(route(ghost, base(ghost)?)?.delete()))?;
        self.entry("route with another gateway", 2, |ghost| Ok(route(ghost, elsewhere)?.replace()))?;
        self.entry("neighbour deleted", 0, |ghost| Ok(neighbour::delete(index, base(ghost)?)))?;
        self.entry("neighbour with another MAC", 0, |ghost| Ok(neighbour::put(index, base(ghost)?, other)))?;
        self.entry("forwarding entry deleted", 1, |ghost| {
            Ok(neighbour::delete_fdb(index, ghost.mac(), ghost.public()))
        })?;
        self.entry("forwarding entry to another end", 1, |ghost| Ok(neighbour::put_fdb(index, ghost.mac(), elsewhere)))
    }

    fn entry(&mut self, what: &str, place: usize, harm: impl Fn(Ghost) -> Outcome<Request>) -> Outcome {
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let ghost = Ghost::new(round * 47 % self.peers + 1);
            let healed = ghost.entries(self.bed.backend)?.swap_remove(place);
            times.push(self.time(what, &[healed], harm(ghost)?)?);
        }
        times.row(&format!("{what}, {} peers", self.peers));
        Ok(())
    }

    fn devices(&mut self) -> Outcome {
        let link = self.kernel.socket().link(&device()?).told("read the device")?.told("there is no device")?;
        let addresses = self.kernel.socket().addresses_of(link.index, Family::V4).told("read its addresses")?;
        let own = addresses.first().told("the device has no address")?.address;
        let whole = News::Link(DEVICE.to_owned(), link.mtu, true);
        let mut routes = Vec::new();
        let mut entries = Vec::new();
        for ghost in (1..=self.peers).map(Ghost::new) {
            entries.extend(ghost.entries(self.bed.backend)?);
            // Forwarding entries outlive a device that is down.
            routes.extend(ghost.entries(self.bed.backend)?.into_iter().filter(|news| !matches!(news, News::Fdb(..))));
        }
        entries.extend([News::Address(own), whole.clone()]);
        routes.push(whole.clone());
        let small = Mtu::try_from(1300).told("an MTU")?;
        self.device("device deleted, all back", &entries, |name, _| link::delete(Device::Name(name)))?;
        self.device("device down, all back", &routes, |name, _| {
            link::set(Device::Name(name), &Change { up: Some(false), ..Change::default() })
        })?;
        self.device("device's address deleted", &[News::Address(own)], |_, index| address::delete(index, own, 32))?;
        self.device("device's MTU changed", &[whole], |name, _| {
            link::set(Device::Name(name), &Change { mtu: Some(small), ..Change::default() })
        })
    }

    fn device(
        &mut self,
        what: &str,
        healed: &[News],
        harm: impl Fn(&dataplane::types::IfName, u32) -> Request,
    ) -> Outcome {
        let mut times = Times::default();
        let name = device()?;
        let mut fresh = self.fresh()?;
        for _ in 0..ROUNDS_OF_ONE {
            // Another one after each time that it was deleted.
            let index = fresh.index()?;
            times.push(fresh.time(what, healed, harm(&name, index))?);
        }
        times.row(&format!("{what}, {} peers", self.peers));
        Ok(())
    }

    fn time(&mut self, what: &str, healed: &[News], harm: Request) -> Outcome<Duration> {
        self.running.process.rest()?;
        self.ear.forget()?;
        let at = Instant::now();
        self.kernel.socket().request(harm).told(what)?;
        let heard = self.ear.hear(what, healed);
        Ok(heard.map_err(|failure| failure.with("netd's log", &self.running.daemon.log()))? - at)
    }

    /// Another node like it, that remembers nothing.
    fn fresh(&self) -> Outcome<Self> {
        Self::new(self.bed.backend, self.peers)
    }

    fn rules(&mut self) -> Outcome {
        self.nft("masquerading table deleted", |_, id| Ok(nft::Operation::DeleteTable(id.clone())))?;
        self.nft("one masquerading rule deleted", |kernel, id| {
            let rules = kernel.rules(id, "postrouting").told("read the rules")?;
            let handle = rules.get(2).told("there are fewer rules than three")?.handle;
            Ok(nft::Operation::DeleteRule { table: id.clone(), chain: "postrouting".to_owned(), handle })
        })?;
        self.nft("masquerading chain flushed", |_, id| {
            Ok(nft::Operation::FlushChain { table: id.clone(), name: "postrouting".to_owned() })
        })
    }

    /// The set of nodes on plain routes, which only host-gw fills.
    fn set(mut self) -> Outcome {
        let name = "direct-nodes-v4".to_owned();
        let set = self.table()?.sets.get(&name).told("there is no set")?.clone();
        self.nft("masquerading set flushed (host-gw)", |_, id| {
            let (table, elements) = (id.clone(), set.elements.clone());
            Ok(nft::Operation::DeleteElements(nft::Elements { table, set: name.clone(), flags: set.flags, elements }))
        })
    }

    fn nft(&mut self, what: &str, harm: impl Fn(&mut Linux, &TableId) -> Outcome<nft::Operation>) -> Outcome {
        let mut times = Times::default();
        let mut fresh = self.fresh()?;
        let (before, id) = (fresh.table()?, fresh.id()?);
        for _ in 0..ROUNDS_OF_ONE {
            let harm = Op::Nft(harm(&mut fresh.kernel, &id)?.into());
            fresh.running.process.rest()?;
            fresh.ear.forget()?;
            let at = Instant::now();
            for outcome in fresh.kernel.apply(std::slice::from_ref(&harm)) {
                outcome.told(what)?;
            }
            // The harm is a transaction, and its repair another one.
            times.push(fresh.ear.hear(what, &[News::Committed, News::Committed])? - at);
            fresh.running.process.rest()?;
            crate::ensure!(fresh.table()? == before, "{what}: the table is another one than before");
        }
        times.row(&format!("{what}, {} peers", self.peers));
        Ok(())
    }

    /// netd's rules in the chain that iptables shares.
    fn accept(&mut self) -> Outcome {
        let mut times = Times::default();
        let mut fresh = self.fresh()?;
        let (table, chain) = (TableId::new(nft::Family::Ip, "filter"), "FORWARD".to_owned());
        fresh.bed.namespace.run("iptables-nft -P FORWARD DROP")?;
        for _ in 0..ROUNDS_OF_ONE {
            let rules = eventually(seconds(10), "netd has two rules there", || {
                let rules = fresh.kernel.rules(&table, &chain).told("read the rules")?;
                crate::ensure!(rules.len() == 2, "there are {rules:?}");
                Ok(rules)
            })?;
            fresh.running.process.rest()?;
            fresh.ear.forget()?;
            let (table, chain, handle) = (table.clone(), chain.clone(), rules[0].handle);
            let harm = Op::Nft(nft::Operation::DeleteRule { table, chain, handle }.into());
            let at = Instant::now();
            for outcome in fresh.kernel.apply(std::slice::from_ref(&harm)) {
                outcome.told("delete a rule")?;
            }
            times.push(fresh.ear.hear("a rule deleted", &[News::Committed, News::Committed])? - at);
        }
        times.row(&format!("accept in iptables' chain deleted, {} peers", self.peers));
        Ok(())
    }

    fn forwarding(&self, family: Family) -> Outcome {
        let bed = Bed::new(self.bed.backend, self.peers)?;
        let key = match family {
            Family::V4 => "net/ipv4/ip_forward",
            Family::V6 => "net/ipv6/conf/all/forwarding",
        };
        if family == Family::V6 {
            bed.add_ipv6()?;
        }
        let mut times = Times::default();
        let mut fresh = Self::on(bed, self.peers)?;
        for _ in 0..ROUNDS_OF_ONE {
            fresh.running.process.rest()?;
            fresh.ear.forget()?;
            let at = Instant::now();
            fresh.bed.namespace.sysctl(key, "0")?;
            times.push(fresh.ear.hear("forwarding switched off", &[News::Forwarding(true)])? - at);
        }
        times.row(&format!("{family} forwarding switched off, {} peers", self.peers));
        Ok(())
    }

    fn index(&mut self) -> Outcome<u32> {
        // The device may just be being made anew.
        self.running.process.rest()?;
        let link = self.kernel.socket().link(&device()?).told("read the device")?;
        Ok(link.told("there is no device")?.index)
    }

    fn table(&mut self) -> Outcome<Table> {
        let id = self.id()?;
        self.kernel.table(&id).told("read the table")?.told("there is no table")
    }

    /// netd's table: the mark of a daemon with files of its own is in its name.
    fn id(&mut self) -> Outcome<TableId> {
        let chains = self.kernel.base_chains().told("read the chains")?;
        let ours = chains.into_iter().find(|facts| facts.table.name.starts_with("netd"));
        Ok(ours.told("there is no table of netd's")?.table)
    }
}
