//! Hears what changes in a namespace, and when.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use dataplane::netlink::{self, Subject};
use dataplane::nft;
use dataplane::types::{Mac, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::deadline::seconds;
use crate::failure::{Outcome, Told};
use crate::namespace::Namespace;

/// How long anything may take.
const PATIENCE: std::time::Duration = seconds(30);

/// Notifications of one namespace.
#[derive(Debug)]
pub(super) struct Ear {
    route: netlink::Monitor,
    nft: nft::Monitor,
}

/// What a notification says, without the numbers that a device made anew has others of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
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

impl Ear {
    /// Opens it; what changes from here on is heard.
    pub(super) fn open(namespace: &Namespace) -> Outcome<Self> {
        namespace.within(|| {
            let route = netlink::Monitor::open().told("listen to links and routes")?;
            Ok(Self { route, nft: nft::Monitor::open().told("listen to nftables")? })
        })?
    }

    /// Forgets what was heard, and says how much that was.
    pub(super) fn forget(&mut self) -> Outcome<usize> {
        Ok(self.waiting()?.len())
    }

    /// Waits for all of these, in any order, and gives the time of the last. Each counts as often as it is listed.
    pub(super) fn hear(&mut self, what: &str, wanted: &[News]) -> Outcome<Instant> {
        let begun = Instant::now();
        let mut missing: Vec<&News> = wanted.iter().collect();
        loop {
            let heard = self.waiting()?;
            let now = Instant::now();
            for news in &heard {
                if let Some(place) = missing.iter().position(|wanted| *wanted == news) {
                    missing.swap_remove(place);
                }
            }
            if missing.is_empty() {
                return Ok(now);
            }
            self.wait(begun).map_err(|failure| failure.with("never heard", &format!("{what}: {missing:?}")))?;
        }
    }

    /// Waits for so many of a kind, and gives the time of the last.
    pub(super) fn count(&mut self, what: &str, enough: usize, is_one: impl Fn(&News) -> bool) -> Outcome<Instant> {
        let begun = Instant::now();
        let mut count = 0;
        loop {
            count += self.waiting()?.iter().filter(|news| is_one(news)).count();
            let now = Instant::now();
            if count >= enough {
                return Ok(now);
            }
            self.wait(begun).map_err(|failure| failure.with("heard", &format!("{count} of {enough}: {what}")))?;
        }
    }

    /// Waits for anything, as long as there is time left since then.
    fn wait(&self, since: Instant) -> Outcome {
        let left = PATIENCE.saturating_sub(since.elapsed());
        crate::ensure!(!left.is_zero(), "it was waited for in vain");
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut sockets = [self.route.as_fd(), self.nft.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut sockets, left).told("wait for changes").map(drop)
    }

    fn waiting(&mut self) -> Outcome<Vec<News>> {
        let mut heard = Vec::new();
        while let Some(events) = self.route.next_events().told("hear of links and routes")? {
            for event in events {
                heard.push(news(event)?);
            }
        }
        while let Some(event) = self.nft.next().told("hear of nftables")? {
            heard.push(if matches!(event, nft::Event::Committed { .. }) { News::Committed } else { News::Other });
        }
        Ok(heard)
    }
}

fn news(event: netlink::Event) -> Outcome<News> {
    Ok(match event {
        netlink::Event::New(subject) => match subject {
            Subject::Neighbour(entry) if entry.permanent => {
                entry.mac.map_or(News::Other, |mac| News::Neighbour(entry.address, mac))
            }
            Subject::Fdb(entry) if entry.permanent => News::Fdb(entry.mac, entry.destination),
            Subject::Route(route) => News::Route(route.destination, route.gateway),
            Subject::Address(address) => News::Address(address.address),
            Subject::Link(link) => News::Link(link.name.as_str().to_owned(), link.mtu, link.up),
            Subject::Neighbour(_) | Subject::Fdb(_) => News::Other,
        },
        netlink::Event::Deleted(subject) => match subject {
            Subject::Neighbour(entry) => News::NoNeighbour(entry.address),
            Subject::Fdb(entry) => News::NoFdb(entry.mac, entry.destination),
            Subject::Route(route) => News::NoRoute(route.destination),
            Subject::Address(_) | Subject::Link(_) => News::Other,
        },
        netlink::Event::Replaced(route) => News::Route(route.destination, route.gateway),
        netlink::Event::Netconf(tuning) => tuning.forwards.map_or(News::Other, News::Forwarding),
        netlink::Event::Unparsed => News::Other,
        netlink::Event::Overrun => crate::fail!("notifications were lost: nothing can be measured"),
    })
}
