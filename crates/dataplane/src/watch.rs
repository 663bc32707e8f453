//! Everything that changes in one network namespace, links to nftables, in the order in which it happened.

use std::os::fd::{AsFd, BorrowedFd};

use crate::netlink::{self, KernelError};
use crate::nft;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Of links, addresses, routes, neighbours or forwarding entries.
    Route(netlink::Event),
    /// Of nftables.
    Nft(nft::Event),
}

/// Hears changes in the namespace that it was opened in. Never blocks: wait until one of its sockets is readable.
///
/// The kernel tells of a change before it answers the request for it, so what an applied plan has changed can be read
/// here as soon as the plan is applied.
#[derive(Debug)]
pub struct Watch {
    route: netlink::Monitor,
    nft: nft::Monitor,
}

impl Watch {
    /// Opens it in the calling thread's network namespace; what changes from here on is heard.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { route: netlink::Monitor::open()?, nft: nft::Monitor::open()? })
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.route.as_fd(), self.nft.as_fd()]
    }

    /// The changes that wait, not many more than `limit`; none where none waits.
    pub fn pending(&mut self, limit: usize) -> Result<Vec<Event>, KernelError> {
        let mut events = Vec::new();
        while events.len() < limit
            && let Some(some) = self.route.next_events()?
        {
            events.extend(some.into_iter().map(Event::Route));
        }
        while events.len() < limit
            && let Some(event) = self.nft.next()?
        {
            events.push(Event::Nft(event));
        }
        Ok(events)
    }
}
