//! One peer changes: from the renaming of its record to the kernel's notification of the changed entry.

use std::time::{Duration, Instant};

use dataplane::neighbour;
use dataplane::netlink::Request;

use super::SIZES;
use super::bed::{Backend, Bed, Running, StorePeer, device};
use super::figures::{Times, head, millis, note, ratio};
use super::kernel_events::{KernelEvent, KernelEvents};
use crate::deadline::sleep;
use crate::failure::{Context, Outcome};

const CHANGES: u32 = 100;
const JOINS: u32 = 30;
/// Few: a record must be missing for half a second before its node counts as gone.
const LEAVES: u32 = 8;

/// Behind the names of what raw netlink does alone.
const RAW: &str = ", raw netlink";

/// As long as it takes until netd has come to rest.
const REST: Duration = Duration::from_millis(60);

/// Prints the tables.
pub(super) fn measure() -> Outcome {
    for backend in [Backend::Vxlan, Backend::HostGw] {
        head(&format!("one peer changes, {}: record renamed to kernel", backend.name()));
        let mut medians: Vec<Vec<(&str, Duration)>> = Vec::new();
        for peers in SIZES {
            let mut lines = Vec::new();
            for (what, times) in at(backend, peers)? {
                times.row(&format!("{what}, at {peers} peers"));
                lines.push((what, times.median()));
            }
            medians.push(lines);
        }
        if let [few, many] = medians.as_slice() {
            let ratios: Vec<String> = few
                .iter()
                .zip(many)
                .map(|((what, few), (_, many))| format!("{what} {:.2}x", ratio(*many, *few)))
                .collect();
            note(&format!("{} peers against {}: {}", SIZES[1], SIZES[0], ratios.join(", ")));
            let own = |lines: &[(&str, Duration)], what: &str| {
                let of = |name: &str| lines.iter().find(|(what, _)| *what == name).map(|(_, took)| *took);
                Some(of(what)?.saturating_sub(of(&format!("{what}{RAW}"))?))
            };
            for (what, _) in many {
                if let Some((few, many)) = own(few, what).zip(own(many, what)) {
                    let (times, few, many) = (ratio(many, few), millis(few), millis(many));
                    note(&format!("{what}, less raw netlink's time: {few:.2} and {many:.2} ms, {times:.2}x"));
                }
            }
        }
        println!();
    }
    note(
        "the kernel keeps the routes out of one device in one list and walks it for each new one: raw netlink alone pays that",
    );
    note("each from rest, to the last of the entries that change");
    note("a peer that leaves is given 500 ms to come back, by intention; they are in its times");
    Ok(())
}

fn at(backend: Backend, peers: u32) -> Outcome<Vec<(&'static str, Times)>> {
    let bed = Bed::new(backend, peers)?;
    let running = bed.start(&[])?;
    let notifications = KernelEvents::open(&bed.namespace)?;
    let mut probe = Probe { bed, running, notifications, store_peers: (1..=peers).map(StorePeer::new).collect() };
    let mut all = Vec::new();
    if backend == Backend::Vxlan {
        all.push(("new MAC", probe.repeat(|store_peer| store_peer.mac ^= 1)?));
    }
    all.push(("new address", probe.repeat(|store_peer| store_peer.address ^= 1)?));
    let newcomers: Vec<StorePeer> = (1..=JOINS).map(|number| StorePeer::new(peers + number)).collect();
    let mut joins = Times::default();
    for store_peer in &newcomers {
        joins.push(probe.time(|bed| bed.write(*store_peer), &store_peer.entries(backend)?)?);
    }
    all.push(("a peer joins", joins));
    let mut leaves = Times::default();
    for store_peer in newcomers.iter().take(LEAVES as usize) {
        leaves.push(probe.time(|bed| bed.remove(*store_peer), &store_peer.removals(backend)?)?);
    }
    all.push(("a peer leaves", leaves));
    let Probe { bed, running, store_peers, .. } = probe;
    running.daemon.crash()?;
    all.extend(raw(&bed, &store_peers)?);
    Ok(all)
}

/// What of it is routes, by raw netlink in the kernel that netd has left: quicker is nobody.
fn raw(bed: &Bed, store_peers: &[StorePeer]) -> Outcome<Vec<(&'static str, Times)>> {
    let mut kernel = bed.kernel()?;
    let socket = kernel.socket();
    let name = if bed.backend == Backend::Vxlan { device()? } else { "eth0".parse().context("a name")? };
    let index = socket.link(&name).context("read the device")?.context("there is no device")?.index;
    let mut time = |requests: Vec<Request>| -> Outcome<Duration> {
        // From rest too: what the kernel walks over is no longer near the processor then.
        sleep(REST);
        let at = Instant::now();
        let outcomes = socket.batch(&requests);
        let took = at.elapsed();
        outcomes.into_iter().try_for_each(|outcome| outcome.context("write an entry"))?;
        Ok(took)
    };
    let mut all = Vec::new();
    if bed.backend == Backend::HostGw {
        let mut times = Times::default();
        for round in 0..CHANGES as usize {
            let mut store_peer = store_peers[round * 47 % store_peers.len()];
            // Unlike any that it has had.
            store_peer.address = u8::try_from(2 + round / store_peers.len()).context("an address")?;
            times.push(time(vec![store_peer.route(bed.backend, index)?.replace()])?);
        }
        all.push(("new address, raw netlink", times));
    }
    let mut joins = Times::default();
    let many = u32::try_from(store_peers.len()).context("a number of peers")?;
    for store_peer in (1..=JOINS).map(|number| StorePeer::new(many + JOINS + number)) {
        let route = store_peer.route(bed.backend, index)?;
        joins.push(time(match bed.backend {
            Backend::HostGw => vec![route.add()],
            Backend::Vxlan => vec![
                neighbour::put(index, route.destination.address(), store_peer.mac()),
                neighbour::put_fdb(index, store_peer.mac(), store_peer.public()),
                route.add(),
            ],
        })?);
    }
    all.push(("a peer joins, raw netlink", joins));
    Ok(all)
}

struct Probe {
    bed: Bed,
    running: Running,
    notifications: KernelEvents,
    store_peers: Vec<StorePeer>,
}

impl Probe {
    /// Changes one peer after the other, spread over all.
    fn repeat(&mut self, change: impl Fn(&mut StorePeer)) -> Outcome<Times> {
        let mut times = Times::default();
        for round in 0..CHANGES as usize {
            let place = round * 47 % self.store_peers.len();
            let old = self.store_peers[place];
            let mut new = old;
            change(&mut new);
            self.store_peers[place] = new;
            let mut wanted = new.entries(self.bed.backend)?;
            wanted.retain(|news| match news {
                KernelEvent::Neighbour(..) => new.mac != old.mac,
                KernelEvent::Route(..) => self.bed.backend == Backend::HostGw,
                _ => true,
            });
            if new.mac != old.mac {
                wanted.push(KernelEvent::NoFdb(old.mac(), old.public()));
            }
            times.push(self.time(|bed| bed.write(new), &wanted)?);
        }
        Ok(times)
    }

    fn time(
        &mut self,
        act: impl FnOnce(&Bed) -> Outcome<std::time::Instant>,
        wanted: &[KernelEvent],
    ) -> Outcome<Duration> {
        self.running.process.rest()?;
        self.notifications.drain()?;
        let at = act(&self.bed)?;
        let received = self.notifications.await_all("a change of a peer", wanted);
        Ok(received.map_err(|failure| failure.with("netd's log", &self.running.daemon.log()))? - at)
    }
}
