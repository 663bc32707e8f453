//! Everything that changes in one network namespace, links to nftables, heard on one thread.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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

/// Hears changes in the namespace that it was opened in.
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

    /// Waits for changes and gives all that wait. Blocks for as long as nothing changes.
    pub fn wait(&mut self) -> Result<Vec<Event>, KernelError> {
        loop {
            let mut events = Vec::new();
            while let Some(some) = self.route.next_events()? {
                events.extend(some.into_iter().map(Event::Route));
            }
            while let Some(event) = self.nft.next()? {
                events.push(Event::Nft(event));
            }
            if !events.is_empty() {
                return Ok(events);
            }
            let mut sockets = [self.route.as_fd(), self.nft.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut sockets, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(KernelError::Socket { action: "wait for changes", source: io::Error::from(errno) });
                }
            }
        }
    }
}
