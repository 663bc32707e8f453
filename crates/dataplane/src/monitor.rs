//! What changes in one network namespace, as the kernel notifies of it: rtnetlink and `nf_tables`.
//!
//! A [`Filter`] names the objects that the owner of a [`Monitor`] wants. The kernel drops other notifications before it wakes
//! anybody, as far as a socket filter can tell; the rest is dropped here. The filter may change at any time.
//!
//! The kernel sends a notification before it answers the request that made the change: notifications of an applied plan wait
//! here as soon as the plan is applied. After [`Event::Overrun`] the owner has to read everything again.

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
pub use event::{Event, Object};
pub use filter::{Devices, Filter, Routes, Tables};
pub use netconf::NetconfChange;

/// `NFNLGRP_NFTABLES`.
const NFTABLES: u32 = 7;

/// The multicast sockets of one network namespace. Nothing here blocks: wait until one of the sockets is readable.
#[derive(Debug)]
pub struct Monitor {
    rtnetlink: NetlinkSocket,
    nftables: NetlinkSocket,
    filter: Filter,
}

impl Monitor {
    /// Opens a monitor in the calling thread's network namespace. Every notification is wanted until [`Monitor::set_filter`].
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open() -> Result<Self, KernelError> {
        let rtnetlink = NetlinkSocket::multicast(NETLINK_ROUTE, rtnetlink::GROUPS.map(|group| group as u32))?;
        let nftables = NetlinkSocket::multicast(NETLINK_NETFILTER, [NFTABLES])?;
        Ok(Self { rtnetlink, nftables, filter: Filter::all() })
    }

    /// Sets the filter for all that has not been received yet. Widen a filter before you read the objects that the filter adds:
    /// what changes after that is received.
    pub fn set_filter(&mut self, filter: Filter) {
        let former = std::mem::replace(&mut self.filter, filter);
        let Filter { links, routes, devices, tables, commits } = &self.filter;
        if (former.links, &former.routes, &former.devices) != (*links, routes, devices) {
            bpf::attach_to_rtnetlink(&self.rtnetlink.inner, &self.filter);
        }
        if (&former.tables, former.commits) != (tables, *commits) {
            bpf::attach_to_nftables(&self.nftables.inner, &self.filter);
        }
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.rtnetlink.inner.as_fd(), self.nftables.inner.as_fd()]
    }

    /// Reads notifications that wait, not many more than `limit`, and gives the events that the filter wants, in their order.
    /// `None` where no notification waited.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn receive(&mut self, limit: usize) -> Result<Option<Vec<Event>>, KernelError> {
        let sockets = [
            (&mut self.rtnetlink, Filter::rtnetlink_event as fn(&Filter, &[u8]) -> Option<Event>),
            (&mut self.nftables, Filter::nftables_event),
        ];
        let (mut received, mut events) = (0, Vec::new());
        for (socket, read) in sockets {
            while received < limit {
                match socket.receive(0)? {
                    Received::Some(datagram) => {
                        for message in messages(datagram) {
                            received += 1;
                            if let Some(event) = read(&self.filter, message) {
                                push(&mut events, event);
                            }
                        }
                    }
                    Received::Lost => {
                        received += 1;
                        push(&mut events, Event::Overrun);
                    }
                    Received::Nothing => break,
                }
            }
        }
        Ok((received > 0).then_some(events))
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
