//! The notifications of one namespace, and when they came.

use std::net::IpAddr;
use std::time::Instant;

use dataplane::monitor::{Event, Filter, Monitor, RtnetlinkObject, Subscription};
use dataplane::types::{Mac, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::deadline::seconds;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// How long anything may take.
const TIMEOUT: std::time::Duration = seconds(30);

/// The notifications of one namespace.
#[derive(Debug)]
pub(super) struct KernelEvents {
    monitor: Monitor,
    subscription: Subscription,
}

/// What a notification says, without the numbers that a device made anew has others of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KernelEvent {
    /// A permanent neighbour entry is there.
    Neighbour(IpAddr, Mac),
    /// One is gone.
    NoNeighbour(IpAddr),
    /// A forwarding entry is there.
    Fdb(Mac, IpAddr),
    /// One is gone.
    NoFdb(Mac, IpAddr),
    /// A route is there.
    Route(Prefix, Option<IpAddr>),
    /// One is gone.
    NoRoute(Prefix),
    /// An address is there.
    Address(IpAddr),
    /// A link has this MTU, and is up or not.
    Link(String, u32, bool),
    /// Packets are forwarded from here on, or not.
    Forwarding(bool),
    /// A change of nftables is through.
    Committed,
    /// Something else.
    Other,
}

impl KernelEvents {
    /// Opens both sockets; every change from here on is received.
    pub(super) fn open(namespace: &Namespace) -> Outcome<Self> {
        namespace.within(|| {
            let mut monitor = Monitor::open().context("open a monitor")?;
            Ok(Self { subscription: monitor.subscribe(Filter::all()), monitor })
        })?
    }

    /// Drops what was received so far, and gives how many notifications it was.
    pub(super) fn drain(&mut self) -> Outcome<usize> {
        Ok(self.waiting()?.len())
    }

    /// Waits for all of these, in any order, and gives the time of the last. Each counts as often as it is listed.
    pub(super) fn await_all(&mut self, what: &str, wanted: &[KernelEvent]) -> Outcome<Instant> {
        let begun = Instant::now();
        let mut missing: Vec<&KernelEvent> = wanted.iter().collect();
        loop {
            let received = self.waiting()?;
            let now = Instant::now();
            for one in &received {
                if let Some(place) = missing.iter().position(|wanted| *wanted == one) {
                    missing.swap_remove(place);
                }
            }
            if missing.is_empty() {
                return Ok(now);
            }
            self.wait(begun).map_err(|failure| failure.with("never received", &format!("{what}: {missing:?}")))?;
        }
    }

    /// Waits for so many of a kind, and gives the time of the last.
    pub(super) fn count(
        &mut self,
        what: &str,
        enough: usize,
        is_one: impl Fn(&KernelEvent) -> bool,
    ) -> Outcome<Instant> {
        let begun = Instant::now();
        let mut count = 0;
        loop {
            count += self.waiting()?.iter().filter(|one| is_one(one)).count();
            let now = Instant::now();
            if count >= enough {
                return Ok(now);
            }
            self.wait(begun).map_err(|failure| failure.with("received", &format!("{count} of {enough}: {what}")))?;
        }
    }

    /// Waits for anything, as long as there is time left since then.
    fn wait(&self, since: Instant) -> Outcome {
        let left = TIMEOUT.saturating_sub(since.elapsed());
        crate::ensure!(!left.is_zero(), "time is over");
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut sockets = self.monitor.sockets().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut sockets, left).context("wait for changes").map(drop)
    }

    fn waiting(&mut self) -> Outcome<Vec<KernelEvent>> {
        let events = self.monitor.drain(self.subscription).context("read notifications")?;
        events.into_iter().map(notification).collect()
    }
}

fn notification(event: Event) -> Outcome<KernelEvent> {
    Ok(match event {
        Event::New(object) => match object {
            RtnetlinkObject::Neighbour(entry) if entry.permanent => {
                entry.mac.map_or(KernelEvent::Other, |mac| KernelEvent::Neighbour(entry.address, mac))
            }
            RtnetlinkObject::Fdb(entry) if entry.permanent => KernelEvent::Fdb(entry.mac, entry.destination),
            RtnetlinkObject::Route(route) => KernelEvent::Route(route.destination, route.gateway),
            RtnetlinkObject::Address(address) => KernelEvent::Address(address.address),
            RtnetlinkObject::Link(link) => KernelEvent::Link(link.name.as_str().to_owned(), link.mtu, link.up),
            RtnetlinkObject::Neighbour(_) | RtnetlinkObject::Fdb(_) => KernelEvent::Other,
        },
        Event::Deleted(object) => match object {
            RtnetlinkObject::Neighbour(entry) => KernelEvent::NoNeighbour(entry.address),
            RtnetlinkObject::Fdb(entry) => KernelEvent::NoFdb(entry.mac, entry.destination),
            RtnetlinkObject::Route(route) => KernelEvent::NoRoute(route.destination),
            RtnetlinkObject::Address(_) | RtnetlinkObject::Link(_) => KernelEvent::Other,
        },
        Event::Replaced(route) => KernelEvent::Route(route.destination, route.gateway),
        Event::Netconf(netconf) => netconf.forwards.map_or(KernelEvent::Other, KernelEvent::Forwarding),
        Event::Committed { .. } => KernelEvent::Committed,
        Event::Unparsed | Event::Table(_) | Event::Rules => KernelEvent::Other,
        Event::Overrun => crate::fail!("notifications were lost: nothing can be measured"),
    })
}
