//! The two multicast sockets and their subscribers.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::event::Event;
use super::filter::Filter;
use super::{bpf, rtnetlink};
use crate::error::KernelError;
use crate::netlink_message::messages;
use crate::netlink_socket::{NetlinkSocket, Received};
use crate::nft::RawMessage;

/// `NFNLGRP_NFTABLES`.
const NFTABLES: u32 = 7;

/// The name of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription(usize);

/// One subscriber: its filter, and the events that it has not taken yet.
#[derive(Debug)]
struct Subscriber {
    filter: Filter,
    events: VecDeque<Event>,
}

impl Subscriber {
    fn push(&mut self, event: Event) {
        if let Event::Table(change) = event {
            // A large set comes and goes one element a message.
            let rest = match self.events.back_mut() {
                Some(Event::Table(last)) => last.merge(change),
                _ => Some(change),
            };
            self.events.extend(rest.map(Event::Table));
        } else if event != Event::Overrun || self.events.back() != Some(&event) {
            self.events.push_back(event);
        }
    }
}

/// The multicast sockets of one network namespace. Nothing here blocks: wait until one of the sockets is readable.
#[derive(Debug)]
pub struct Monitor {
    rtnetlink: NetlinkSocket,
    pub(super) nftables: NetlinkSocket,
    subscribers: Vec<Subscriber>,
    /// The programs that are attached to the two sockets.
    programs: bpf::Programs,
}

impl Monitor {
    /// Opens a monitor in the calling thread's network namespace. What changes from now on is kept for those that subscribe.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open() -> Result<Self, KernelError> {
        let rtnetlink = NetlinkSocket::multicast(NETLINK_ROUTE, rtnetlink::GROUPS.map(|group| group as u32))?;
        let nftables = NetlinkSocket::multicast(NETLINK_NETFILTER, [NFTABLES])?;
        Ok(Self { rtnetlink, nftables, subscribers: Vec::new(), programs: bpf::Programs::default() })
    }

    /// Adds a subscriber.
    pub fn subscribe(&mut self, filter: Filter) -> Subscription {
        self.subscribers.push(Subscriber { filter, events: VecDeque::new() });
        self.attach();
        Subscription(self.subscribers.len() - 1)
    }

    /// Gives a subscriber another filter, for all that has not been received yet. Widen a filter before you read the objects
    /// that it adds: what changes after that is received.
    pub fn set_filter(&mut self, subscription: Subscription, filter: Filter) {
        let Some(subscriber) = self.subscribers.get_mut(subscription.0) else { return };
        if subscriber.filter != filter {
            subscriber.filter = filter;
            self.attach();
        }
    }

    fn attach(&mut self) {
        let filters: Vec<&Filter> = self.subscribers.iter().map(|subscriber| &subscriber.filter).collect();
        self.programs.attach(&filters, &self.rtnetlink.inner, &self.nftables.inner);
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.rtnetlink.inner.as_fd(), self.nftables.inner.as_fd()]
    }

    /// Reads notifications that wait, not many more than `limit`, and sorts them to their subscribers; false where none waited.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn receive(&mut self, limit: usize) -> Result<bool, KernelError> {
        let mut received = 0;
        while received < limit && self.receive_rtnetlink(&mut received)? {}
        while received < limit && self.receive_nftables(&mut received)? {}
        Ok(received > 0)
    }

    /// The events of one subscriber that [`Monitor::receive`] has sorted to it, in their order.
    pub fn take(&mut self, subscription: Subscription) -> Vec<Event> {
        self.subscribers.get_mut(subscription.0).map_or_else(Vec::new, |one| one.events.drain(..).collect())
    }

    /// All that waits for the only subscriber.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn drain(&mut self, subscription: Subscription) -> Result<Vec<Event>, KernelError> {
        while self.receive(usize::MAX)? {}
        Ok(self.take(subscription))
    }

    /// Reads one datagram; false where none waits.
    fn receive_rtnetlink(&mut self, received: &mut usize) -> Result<bool, KernelError> {
        match self.rtnetlink.receive(0)? {
            Received::Some(datagram) => {
                for bytes in messages(datagram) {
                    *received += 1;
                    let Some(scope) = rtnetlink::Scope::of(bytes) else { continue };
                    let mut wanting = self.subscribers.iter_mut().filter(|one| one.filter.wants(&scope)).peekable();
                    if wanting.peek().is_some()
                        && let Some(event) = rtnetlink::event(bytes)
                    {
                        wanting.for_each(|subscriber| subscriber.push(event.clone()));
                    }
                }
            }
            Received::Lost => self.lost(received),
            Received::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// Reads one datagram; false where none waits.
    fn receive_nftables(&mut self, received: &mut usize) -> Result<bool, KernelError> {
        match self.nftables.receive(0)? {
            Received::Some(datagram) => {
                for bytes in messages(datagram) {
                    *received += 1;
                    let Some(notification) = RawMessage::of(bytes) else { continue };
                    for subscriber in &mut self.subscribers {
                        if let Some(event) = subscriber.filter.event(&notification) {
                            subscriber.push(event);
                        }
                    }
                }
            }
            Received::Lost => self.lost(received),
            Received::Nothing => return Ok(false),
        }
        Ok(true)
    }

    fn lost(&mut self, received: &mut usize) {
        *received += 1;
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.push(Event::Overrun));
    }
}
