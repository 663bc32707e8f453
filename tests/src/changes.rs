//! The kernel's notifications of one namespace, to do something at the n-th.

use std::os::fd::AsFd;
use std::time::Duration;

use dataplane::netlink;
use dataplane::nft;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// Hears every change of links, addresses, routes, neighbours and rules from when it was opened on.
#[derive(Debug)]
pub struct Changes {
    route: netlink::Monitor,
    nft: nft::Monitor,
}

impl Changes {
    /// Opens it.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to.
    pub fn open(namespace: &Namespace) -> Outcome<Self> {
        let opened = || Ok((netlink::Monitor::open()?, nft::Monitor::open()?));
        let (route, nft) =
            namespace.within(opened)?.map_err(|error: netlink::KernelError| error).context("read notifications")?;
        Ok(Self { route, nft })
    }

    /// Waits until `count` changes were received, or none for as long as `patience`. Gives how many there were.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to any more.
    pub fn await_count(&mut self, count: usize, timeout: Duration) -> Outcome<usize> {
        let mut received = 0;
        let timeout = PollTimeout::try_from(timeout).context("bound a wait")?;
        while received < count {
            let mut any = 0;
            while let Some(events) = self.route.next_events().context("read notifications")? {
                any += events.len();
            }
            while self.nft.next().context("read notifications of nftables")?.is_some() {
                any += 1;
            }
            received += any;
            if any == 0 {
                let mut sockets = [self.route.as_fd(), self.nft.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                if poll(&mut sockets, timeout).context("wait for changes")? == 0 {
                    break;
                }
            }
        }
        Ok(received)
    }
}
