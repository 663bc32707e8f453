//! The kernel's notifications of one namespace, to do something at the n-th.

use std::time::Duration;

use dataplane::monitor::{Filter, Monitor, Subscription};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// Receives every change of links, addresses, routes, neighbours and rules from when it was opened on.
#[derive(Debug)]
pub struct Changes {
    monitor: Monitor,
    subscription: Subscription,
}

impl Changes {
    /// Opens it.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to.
    pub fn open(namespace: &Namespace) -> Outcome<Self> {
        let mut monitor = namespace.within(Monitor::open)?.context("read notifications")?;
        Ok(Self { subscription: monitor.subscribe(Filter::all()), monitor })
    }

    /// Waits until `count` changes were received, or none for as long as `patience`. Gives how many there were.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to any more.
    pub fn await_count(&mut self, count: usize, timeout: Duration) -> Outcome<usize> {
        let mut received = 0;
        let timeout = PollTimeout::try_from(timeout).context("bound a wait")?;
        while received < count {
            let any = self.monitor.drain(self.subscription).context("read notifications")?.len();
            received += any;
            if any == 0 {
                let mut sockets = self.monitor.sockets().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                if poll(&mut sockets, timeout).context("wait for changes")? == 0 {
                    break;
                }
            }
        }
        Ok(received)
    }
}
