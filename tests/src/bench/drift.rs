//! Something of netd's is changed by somebody else: how long until it is as it was.
//!
//! Timed from before the request that breaks it, so with the kernel's own time for that: it waits for a grace period
//! before a device is gone.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::kernel::{Kernel, Linux};
use dataplane::link::{self, Device, LinkChange};
use dataplane::netlink::Request;
use dataplane::nft::{self, Table, TableId};
use dataplane::op::Op;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{Family, Mtu, RouteProtocol};
use dataplane::{address, neighbour};

use super::SIZES;
use super::bed::{Backend, Bed, DEVICE, Running, StorePeer, device};
use super::figures::{Times, head, note};
use super::kernel_events::{KernelEvent, KernelEvents};
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};

const ROUNDS: u32 = 20;
/// Of one and the same object: what is undone more often within a minute is contested, and put back ever more rarely.
const ROUNDS_OF_ONE: u32 = 10;

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let [few, many] = SIZES;
    head("drift to healed");
    Patient::new(Backend::Vxlan, few)?.all()?;
    Patient::new(Backend::Vxlan, many)?.entries()?;
    note(
        "each from rest; the kernel sends no notification of accept_ra and disable_ipv6: the next full read finds them (--iptables-resync)",
    );
    Ok(())
}

/// The node to which it is done.
struct Patient {
    bed: Bed,
    running: Running,
    notifications: KernelEvents,
    kernel: Linux,
    peers: u32,
}

impl Patient {
    fn new(backend: Backend, peers: u32) -> Outcome<Self> {
        Self::on(Bed::new(backend, peers)?, peers)
    }

    fn on(bed: Bed, peers: u32) -> Outcome<Self> {
        let running = bed.start(&[])?;
        let (notifications, kernel) = (KernelEvents::open(&bed.namespace)?, bed.kernel()?);
        Ok(Self { bed, running, notifications, kernel, peers })
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
        let other = StorePeer { mac: 9, ..StorePeer::new(0) }.mac();
        let route = |store_peer: StorePeer, gateway: IpAddr| -> Outcome<Route> {
            let (destination, protocol) = (store_peer.subnet()?, RouteProtocol(110));
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
        let base = |store_peer: StorePeer| store_peer.subnet().map(dataplane::types::Prefix::address);
        self.entry("route deleted", 2, |store_peer| Ok(route(store_peer, base(store_peer)?)?.delete()))?;
        self.entry("route with another gateway", 2, |store_peer| Ok(route(store_peer, elsewhere)?.replace()))?;
        self.entry("neighbour deleted", 0, |store_peer| Ok(neighbour::delete(index, base(store_peer)?)))?;
        self.entry("neighbour with another MAC", 0, |store_peer| Ok(neighbour::put(index, base(store_peer)?, other)))?;
        self.entry("forwarding entry deleted", 1, |store_peer| {
            Ok(neighbour::delete_fdb(index, store_peer.mac(), store_peer.public()))
        })?;
        self.entry("forwarding entry to another end", 1, |store_peer| {
            Ok(neighbour::put_fdb(index, store_peer.mac(), elsewhere))
        })
    }

    fn entry(&mut self, what: &str, place: usize, harm: impl Fn(StorePeer) -> Outcome<Request>) -> Outcome {
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let store_peer = StorePeer::new(round * 47 % self.peers + 1);
            let healed = store_peer.entries(self.bed.backend)?.swap_remove(place);
            times.push(self.time(what, &[healed], harm(store_peer)?)?);
        }
        times.row(&format!("{what}, {} peers", self.peers));
        Ok(())
    }

    fn devices(&mut self) -> Outcome {
        let link = self.kernel.socket().link(&device()?).context("read the device")?.context("there is no device")?;
        let addresses =
            self.kernel.socket().addresses(Some(link.index), Some(Family::V4)).context("read its addresses")?;
        let own = addresses.first().context("the device has no address")?.address;
        let whole = KernelEvent::Link(DEVICE.to_owned(), link.mtu, true);
        let mut routes = Vec::new();
        let mut entries = Vec::new();
        for store_peer in (1..=self.peers).map(StorePeer::new) {
            entries.extend(store_peer.entries(self.bed.backend)?);
            // Forwarding entries outlive a device that is down.
            routes.extend(
                store_peer.entries(self.bed.backend)?.into_iter().filter(|news| !matches!(news, KernelEvent::Fdb(..))),
            );
        }
        entries.extend([KernelEvent::Address(own), whole.clone()]);
        routes.push(whole.clone());
        let small = Mtu::try_from(1300).context("an MTU")?;
        self.device("device deleted, all back", &entries, |name, _| link::delete(Device::Name(name)))?;
        self.device("device down, all back", &routes, |name, _| {
            link::set(Device::Name(name), &LinkChange { up: Some(false), ..LinkChange::default() })
        })?;
        self.device("device's address deleted", &[KernelEvent::Address(own)], |_, index| {
            address::delete(index, own, 32)
        })?;
        self.device("device's MTU changed", &[whole], |name, _| {
            link::set(Device::Name(name), &LinkChange { mtu: Some(small), ..LinkChange::default() })
        })
    }

    fn device(
        &mut self,
        what: &str,
        healed: &[KernelEvent],
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

    fn time(&mut self, what: &str, healed: &[KernelEvent], harm: Request) -> Outcome<Duration> {
        self.running.process.rest()?;
        self.notifications.drain()?;
        let at = Instant::now();
        self.kernel.socket().request(harm).context(what)?;
        let received = self.notifications.await_all(what, healed);
        Ok(received.map_err(|failure| failure.with("netd's log", &self.running.daemon.log()))? - at)
    }

    /// Another node like it, that remembers nothing.
    fn fresh(&self) -> Outcome<Self> {
        Self::new(self.bed.backend, self.peers)
    }

    fn rules(&mut self) -> Outcome {
        self.nft("masquerading table deleted", |_, id| Ok(nft::Operation::DeleteTable(id.clone()).into()))?;
        self.nft("one masquerading rule deleted", |kernel, id| {
            let rules = kernel.rules(id, "postrouting").context("read the rules")?;
            let handle = rules.get(2).context("there are fewer rules than three")?.handle;
            Ok(nft::Operation::DeleteRule { table: id.clone(), chain: "postrouting".to_owned(), handle }.into())
        })?;
        self.nft("masquerading chain flushed", |kernel, id| {
            let rules = kernel.rules(id, "postrouting").context("read the rules")?;
            let (table, chain) = (id.clone(), "postrouting".to_owned());
            let delete = |nft::RuleWithHandle { handle, .. }| {
                let (table, chain) = (table.clone(), chain.clone());
                nft::Operation::DeleteRule { table, chain, handle }
            };
            Ok(rules.into_iter().map(delete).collect())
        })
    }

    fn nft(&mut self, what: &str, harm: impl Fn(&mut Linux, &TableId) -> Outcome<nft::Transaction>) -> Outcome {
        let mut times = Times::default();
        let mut fresh = self.fresh()?;
        let (before, id) = (fresh.table()?, fresh.id()?);
        for _ in 0..ROUNDS_OF_ONE {
            let harm = Op::Nft(harm(&mut fresh.kernel, &id)?);
            fresh.running.process.rest()?;
            fresh.notifications.drain()?;
            let at = Instant::now();
            for outcome in fresh.kernel.apply(std::slice::from_ref(&harm)) {
                outcome.context(what)?;
            }
            // The harm is a transaction, and its repair another one.
            times.push(fresh.notifications.await_all(what, &[KernelEvent::Committed, KernelEvent::Committed])? - at);
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
        let (table, chain) = (TableId::new(nft::TableFamily::Ip, "filter"), "FORWARD".to_owned());
        fresh.bed.namespace.run("iptables-nft -P FORWARD DROP")?;
        for _ in 0..ROUNDS_OF_ONE {
            let rules = eventually(seconds(10), "netd has two rules there", || {
                let rules = fresh.kernel.rules(&table, &chain).context("read the rules")?;
                crate::ensure!(rules.len() == 2, "there are {rules:?}");
                Ok(rules)
            })?;
            fresh.running.process.rest()?;
            fresh.notifications.drain()?;
            let (table, chain, handle) = (table.clone(), chain.clone(), rules[0].handle);
            let harm = Op::Nft(nft::Operation::DeleteRule { table, chain, handle }.into());
            let at = Instant::now();
            for outcome in fresh.kernel.apply(std::slice::from_ref(&harm)) {
                outcome.context("delete a rule")?;
            }
            times.push(
                fresh.notifications.await_all("a rule deleted", &[KernelEvent::Committed, KernelEvent::Committed])?
                    - at,
            );
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
            fresh.notifications.drain()?;
            let at = Instant::now();
            fresh.bed.namespace.sysctl(key, "0")?;
            times
                .push(fresh.notifications.await_all("forwarding switched off", &[KernelEvent::Forwarding(true)])? - at);
        }
        times.row(&format!("{family} forwarding switched off, {} peers", self.peers));
        Ok(())
    }

    fn index(&mut self) -> Outcome<u32> {
        // The device may just be being made anew.
        self.running.process.rest()?;
        let link = self.kernel.socket().link(&device()?).context("read the device")?;
        Ok(link.context("there is no device")?.index)
    }

    fn table(&mut self) -> Outcome<Table> {
        let id = self.id()?;
        self.kernel.table(&id).context("read the table")?.context("there is no table")
    }

    /// netd's table: the mark of a daemon with files of its own is in its name.
    fn id(&mut self) -> Outcome<TableId> {
        let chains = self.kernel.base_chains().context("read the chains")?;
        let ours = chains.into_iter().find(|facts| facts.table.name.starts_with("netd"));
        Ok(ours.context("there is no table of netd's")?.table)
    }
}
