//! The notifications of one namespace, and when they came.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use dataplane::netlink::{self, Subject};
use dataplane::nft;
use dataplane::types::{Mac, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::deadline::seconds;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// How long anything may take.
const TIMEOUT: std::time::Duration = seconds(30);

/// Notifications of one namespace.
#[derive(Debug)]
pub(super) struct Notifications {
    route: netlink::Monitor,
    nft: nft::Monitor,
}

/// What a notification says, without the numbers that a device made anew has others of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notification {
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

impl Notifications {
    /// Opens both sockets; every change from here on is received.
    pub(super) fn open(namespace: &Namespace) -> Outcome<Self> {
        namespace.within(|| {
            let route = netlink::Monitor::open().context("subscribe to links and routes")?;
            Ok(Self { route, nft: nft::Monitor::open().context("subscribe to nftables")? })
        })?
    }

    /// Drops what was received so far, and gives how many notifications it was.
    pub(super) fn drain(&mut self) -> Outcome<usize> {
        Ok(self.waiting()?.len())
    }

    /// Waits for all of these, in any order, and gives the time of the last. Each counts as often as it is listed.
    pub(super) fn await_all(&mut self, what: &str, wanted: &[Notification]) -> Outcome<Instant> {
        let begun = Instant::now();
        let mut missing: Vec<&Notification> = wanted.iter().collect();
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
        is_one: impl Fn(&Notification) -> bool,
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
        let mut sockets = [self.route.as_fd(), self.nft.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut sockets, left).context("wait for changes").map(drop)
    }

    fn waiting(&mut self) -> Outcome<Vec<Notification>> {
        let mut received = Vec::new();
        while let Some(events) = self.route.next_events().context("read notifications of links and routes")? {
            for event in events {
                received.push(notification(event)?);
            }
        }
        while let Some(event) = self.nft.next().context("read notifications of nftables")? {
            received.push(if matches!(event, nft::Event::Committed { .. }) {
                Notification::Committed
            } else {
                Notification::Other
            });
        }
        Ok(received)
    }
}

fn notification(event: netlink::Event) -> Outcome<Notification> {
    Ok(match event {
        netlink::Event::New(subject) => match subject {
            Subject::Neighbour(entry) if entry.permanent => {
                entry.mac.map_or(Notification::Other, |mac| Notification::Neighbour(entry.address, mac))
            }
            Subject::Fdb(entry) if entry.permanent => Notification::Fdb(entry.mac, entry.destination),
            Subject::Route(route) => Notification::Route(route.destination, route.gateway),
            Subject::Address(address) => Notification::Address(address.address),
            Subject::Link(link) => Notification::Link(link.name.as_str().to_owned(), link.mtu, link.up),
            Subject::Neighbour(_) | Subject::Fdb(_) => Notification::Other,
        },
        netlink::Event::Deleted(subject) => match subject {
            Subject::Neighbour(entry) => Notification::NoNeighbour(entry.address),
            Subject::Fdb(entry) => Notification::NoFdb(entry.mac, entry.destination),
            Subject::Route(route) => Notification::NoRoute(route.destination),
            Subject::Address(_) | Subject::Link(_) => Notification::Other,
        },
        netlink::Event::Replaced(route) => Notification::Route(route.destination, route.gateway),
        netlink::Event::Netconf(tuning) => tuning.forwards.map_or(Notification::Other, Notification::Forwarding),
        netlink::Event::Unparsed => Notification::Other,
        netlink::Event::Overrun => crate::fail!("notifications were lost: nothing can be measured"),
    })
}
