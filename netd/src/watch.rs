//! Which of the kernel's notifications could concern us; the others wake nobody.
//!
//! A node's pods come and go all the time, and with them links, neighbours and rules of others: none of that is ours.

use std::collections::BTreeSet;
use std::thread;

use dataplane::link::Kind;
use dataplane::netlink::{self, KernelError, Subject};
use dataplane::nft::{self, TableId};
use dataplane::watch::{Event, Watch};
use dataplane::words::IfName;
use tokio::sync::mpsc;

/// Notifications that wait to be judged; when there are more, the kernel keeps them, and tells when it cannot.
const QUEUE: usize = 256;

/// What we look after.
#[derive(Debug, Clone)]
pub struct Interest {
    /// Our nftables table.
    pub table: TableId,
    /// The interface under the tunnels.
    pub underlay: IfName,
    /// The indexes of that interface and of our devices.
    pub indexes: BTreeSet<u32>,
}

impl Interest {
    /// True where the kernel may not be as it should be after `event`.
    pub fn covers(&self, event: &Event) -> bool {
        match event {
            Event::Route(netlink::Event::Overrun) | Event::Nft(nft::Event::Overrun) => true,
            Event::Route(netlink::Event::Is(subject) | netlink::Event::Gone(subject)) => self.covers_subject(subject),
            // The filter table is where iptables' policies are.
            Event::Nft(nft::Event::Changed { table, .. }) => *table == self.table || table.name == "filter",
            Event::Nft(nft::Event::Committed { .. }) => false,
        }
    }

    fn covers_subject(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Link(link) => matches!(link.kind, Kind::Vxlan(_)) || link.name == self.underlay,
            Subject::Address(address) => self.indexes.contains(&address.index),
            Subject::Route(_) => true,
            Subject::Neighbour(neighbour) => self.indexes.contains(&neighbour.index),
            Subject::Fdb(entry) => self.indexes.contains(&entry.index),
        }
    }
}

/// Follows the kernel from a thread of its own, in the calling thread's network namespace.
///
/// # Errors
/// Where the kernel cannot be listened to.
pub fn start() -> Result<mpsc::Receiver<Vec<Event>>, KernelError> {
    let mut watch = Watch::open()?;
    let (tell, hear) = mpsc::channel(QUEUE);
    thread::spawn(move || {
        loop {
            match watch.wait() {
                Ok(events) => {
                    if tell.blocking_send(events).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(
                        "the kernel's changes cannot be followed any more, only compared now and then: {error}"
                    );
                    return;
                }
            }
        }
    });
    Ok(hear)
}
