//! What anybody changes in the ruleset, as it happens.
//!
//! An event says what to look at again, not what it is now. After [`Event::Overrun`] everything has to be read again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Error;
use super::abi::{chain, element, generation, message, rule, set, table};
use super::read::Frame;
use super::table::TableId;
use crate::netlink::{message_port, messages};
use crate::netlink_socket::{NetlinkSocket, Received};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// Whether something came or went. A change of something that is there comes as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is there now.
    New,
    /// It is gone.
    Deleted,
}

/// What an event is about, with the name of the chain or set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The table itself.
    Table,
    /// A chain.
    Chain(String),
    /// A rule of this chain.
    Rule(String),
    /// A set.
    Set(String),
    /// Elements of this set.
    Elements(String),
    /// An object or flow table, which are not modelled.
    Other,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// One object changed. Many in a row that would read the same are one.
    Changed {
        /// The table.
        table: TableId,
        /// What in it.
        subject: Subject,
        /// Whether it came or went.
        action: Action,
        /// The lower 16 bits of the generation that the change made.
        generation: u16,
        /// The port of the socket that asked for it, as [`super::Socket::port`] gives it.
        origin: u32,
    },
    /// A transaction is through, and this is the ruleset's generation now.
    Committed {
        /// As [`super::Socket::generation`] gives it.
        generation: u32,
    },
    /// Events were lost.
    Overrun,
}

/// A socket that hears of every change in its network namespace. It never blocks: wait until it is readable, then call
/// [`Monitor::next`] until it gives nothing.
#[derive(Debug)]
pub struct Monitor {
    pub(super) inner: NetlinkSocket,
    events: VecDeque<Event>,
}

impl Monitor {
    /// Opens a monitor in the calling thread's network namespace. It hears what happens from now on.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { inner: NetlinkSocket::multicast(NETLINK_NETFILTER, [GROUP])?, events: VecDeque::new() })
    }

    /// The next event; `None` where there is none for now.
    ///
    /// # Errors
    /// Where the socket fails for good.
    #[expect(clippy::should_implement_trait, reason = "an iterator would be taken for ended")]
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        while self.events.is_empty() {
            match self.inner.receive(0)? {
                Received::Some(datagram) => {
                    for event in messages(datagram).filter_map(event) {
                        if self.events.back() != Some(&event) {
                            self.events.push_back(event);
                        }
                    }
                }
                Received::Lost => self.events.push_back(Event::Overrun),
                Received::Nothing => return Ok(None),
            }
        }
        Ok(self.events.pop_front())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.inner.as_fd()
    }
}

fn event(bytes: &[u8]) -> Option<Event> {
    use Action::{Deleted, New};
    let frame = Frame::of(bytes)?;
    let named = |kind| frame.text(kind);
    let (table, subject, action) = match frame.message()? {
        message::NEWGEN => return Some(Event::Committed { generation: frame.number(generation::ID)? }),
        message::NEWTABLE => (table::NAME, Subject::Table, New),
        message::DELTABLE => (table::NAME, Subject::Table, Deleted),
        message::NEWCHAIN => (chain::TABLE, Subject::Chain(named(chain::NAME)?), New),
        message::DELCHAIN => (chain::TABLE, Subject::Chain(named(chain::NAME)?), Deleted),
        message::NEWRULE => (rule::TABLE, Subject::Rule(named(rule::CHAIN)?), New),
        message::DELRULE => (rule::TABLE, Subject::Rule(named(rule::CHAIN)?), Deleted),
        message::NEWSET => (set::TABLE, Subject::Set(named(set::NAME)?), New),
        message::DELSET => (set::TABLE, Subject::Set(named(set::NAME)?), Deleted),
        message::NEWSETELEM => (element::TABLE, Subject::Elements(named(element::SET)?), New),
        message::DELSETELEM => (element::TABLE, Subject::Elements(named(element::SET)?), Deleted),
        // Objects and flow tables have their table's name where tables have theirs.
        message::NEWOBJ | message::NEWFLOWTABLE => (table::NAME, Subject::Other, New),
        message::DELOBJ | message::DELFLOWTABLE => (table::NAME, Subject::Other, Deleted),
        _ => return None,
    };
    let origin = message_port(bytes);
    Some(Event::Changed { table: frame.table(table)?, subject, action, generation: frame.generation, origin })
}
