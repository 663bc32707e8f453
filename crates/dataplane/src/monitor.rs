//! What changes in one network namespace, as the kernel notifies of it: rtnetlink and `nf_tables`, for several subscribers.
//!
//! A [`Filter`] names the objects that a subscriber wants. The kernel drops a notification that no subscriber wants before it
//! wakes anybody, as far as a socket filter can tell; the rest is dropped here. Filters may change at any time.
//!
//! The kernel sends a notification before it answers the request that made the change: notifications of an applied plan wait
//! here as soon as the plan is applied. After [`Event::Overrun`] a subscriber has to read everything again.

#[cfg(feature = "tokio")]
mod asynchronous;
mod bpf;
mod event;
mod filter;
mod netconf;
mod rtnetlink;

use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use crate::error::KernelError;
use crate::netlink_message::messages;
use crate::netlink_socket::{NetlinkSocket, Received};

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncMonitor;
pub use event::{Event, RtnetlinkObject};
pub use filter::{Devices, Filter, Routes, Tables};
pub use netconf::NetconfChange;

/// `NFNLGRP_NFTABLES`.
const NFTABLES: u32 = 7;

/// The name of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription(usize);

/// One subscriber: its filter, and the events that it has not taken yet.
#[derive(Debug)]
struct Subscriber {
    filter: Filter,
    events: Vec<Event>,
}

/// The multicast sockets of one network namespace. Nothing here blocks: wait until one of the sockets is readable.
#[derive(Debug)]
pub struct Monitor {
    rtnetlink: NetlinkSocket,
    nftables: NetlinkSocket,
    subscribers: Vec<Subscriber>,
    /// What the sockets' programs accept.
    accepted: Filter,
}

impl Monitor {
    /// Opens a monitor in the calling thread's network namespace. What changes from now on is kept for those that subscribe.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open() -> Result<Self, KernelError> {
        let rtnetlink = NetlinkSocket::multicast(NETLINK_ROUTE, rtnetlink::GROUPS.map(|group| group as u32))?;
        let nftables = NetlinkSocket::multicast(NETLINK_NETFILTER, [NFTABLES])?;
        Ok(Self { rtnetlink, nftables, subscribers: Vec::new(), accepted: Filter::all() })
    }

    /// Adds a subscriber.
    pub fn subscribe(&mut self, filter: Filter) -> Subscription {
        self.subscribers.push(Subscriber { filter, events: Vec::new() });
        self.attach();
        Subscription(self.subscribers.len() - 1)
    }

    /// Sets a subscriber's filter for all that has not been received yet. Widen a filter before you read the objects that the
    /// filter adds: what changes after that is received.
    pub fn set_filter(&mut self, subscription: Subscription, filter: Filter) {
        if let Some(subscriber) = self.subscribers.get_mut(subscription.0) {
            subscriber.filter = filter;
            self.attach();
        }
    }

    fn attach(&mut self) {
        let wanted = self.subscribers.iter().fold(Filter::default(), |wanted, one| wanted.or(&one.filter));
        let former = std::mem::replace(&mut self.accepted, wanted);
        let Filter { links, routes, rules, devices, tables, commits } = &self.accepted;
        if (former.links, &former.routes, former.rules, &former.devices) != (*links, routes, *rules, devices) {
            bpf::attach_to_rtnetlink(&self.rtnetlink.inner, &self.accepted);
        }
        if (&former.tables, former.commits) != (tables, *commits) {
            bpf::attach_to_nftables(&self.nftables.inner, &self.accepted);
        }
    }

    /// All events that wait for one subscriber.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn drain(&mut self, subscription: Subscription) -> Result<Vec<Event>, KernelError> {
        while self.receive(usize::MAX)? {}
        Ok(self.take(subscription))
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.rtnetlink.inner.as_fd(), self.nftables.inner.as_fd()]
    }

    /// The events that [`Monitor::receive`] has kept for one subscriber, in their order.
    pub fn take(&mut self, subscription: Subscription) -> Vec<Event> {
        self.subscribers.get_mut(subscription.0).map_or_else(Vec::new, |one| std::mem::take(&mut one.events))
    }

    /// Reads notifications that wait, not many more than `limit`, for their subscribers; false where none waited.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn receive(&mut self, limit: usize) -> Result<bool, KernelError> {
        let sockets = [
            (&mut self.rtnetlink, Filter::rtnetlink_event as fn(&Filter, &[u8]) -> Option<Event>),
            (&mut self.nftables, Filter::nftables_event),
        ];
        let mut received = 0;
        for (socket, read) in sockets {
            while received < limit {
                match socket.receive(0)? {
                    Received::Some(datagram) => {
                        for message in messages(datagram) {
                            received += 1;
                            for Subscriber { filter, events } in &mut self.subscribers {
                                if let Some(event) = read(filter, message) {
                                    push(events, event);
                                }
                            }
                        }
                    }
                    Received::Lost => {
                        received += 1;
                        self.subscribers.iter_mut().for_each(|one| push(&mut one.events, Event::Overrun));
                    }
                    Received::Nothing => break,
                }
            }
        }
        Ok(received > 0)
    }
}

/// Appends an event, or joins it to the last one: a large set comes and goes one element a message.
fn push(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), event) {
        (Some(Event::Table(last)), Event::Table(change)) => {
            let rest = last.merge(change);
            events.extend(rest.map(Event::Table));
        }
        (Some(Event::Overrun), Event::Overrun) => {}
        (_, event) => events.push(event),
    }
}

#[cfg(test)]
mod tests;
