//! The leases as the store has them: the list in progress, and the nodes whose leases have changed since the last run.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use network::model::{Lease, NodeName};

/// Leases by node.
pub(super) type Leases = BTreeMap<NodeName, Arc<Lease>>;

/// The view.
#[derive(Debug, Default)]
pub(super) struct StoreView {
    /// Every node's lease, this node's too.
    pub(super) leases: Leases,
    /// The records that are passed over, and why.
    pub(super) faults: BTreeMap<String, String>,
    /// The list that the store is sending, until it is complete.
    listing: Option<Leases>,
    /// The first list is complete. Before it is, nothing in the kernel may change.
    pub(super) is_listed: bool,
    /// Nodes whose leases have changed since the last run.
    news: BTreeSet<NodeName>,
    /// Nodes of which an event came since the read in progress began: the event is the newer of the two.
    since_read: Option<BTreeSet<NodeName>>,
}

/// What a read of all leases has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadResult {
    /// Something is not as it was known before the read began.
    pub(super) changed: bool,
    /// What the nodes send and receive is the same by the read and by the events since it began.
    pub(super) agrees: bool,
}

impl StoreView {
    /// True where leases have changed since the last run.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The leases that have changed since the last run, `None` for a node that has none any more. From now on they are no news.
    pub(super) fn take_news(&mut self) -> BTreeMap<NodeName, Option<Arc<Lease>>> {
        let news = std::mem::take(&mut self.news).into_iter();
        news.map(|node| (node.clone(), self.leases.get(&node).cloned())).collect()
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.listing = Some(Leases::new());
    }

    /// A list is complete; true for the first one.
    pub(super) fn end_list(&mut self) -> bool {
        let former = std::mem::replace(&mut self.leases, self.listing.take().unwrap_or_default());
        if !std::mem::replace(&mut self.is_listed, true) {
            return true;
        }
        let differs = |node: &&NodeName| former.get(*node) != self.leases.get(*node);
        let changed: Vec<NodeName> = former.keys().chain(self.leases.keys()).filter(differs).cloned().collect();
        self.since_read.iter_mut().for_each(|nodes| nodes.extend(changed.iter().cloned()));
        self.news.extend(changed);
        false
    }

    /// A node's lease is new or has changed, or it is in the list.
    pub(super) fn insert(&mut self, lease: Arc<Lease>) {
        let node = lease.node.clone();
        if let Some(listing) = &mut self.listing {
            listing.insert(node, lease);
        } else if self.leases.insert(node.clone(), Arc::clone(&lease)).as_ref() != Some(&lease) {
            self.note(node);
        }
    }

    /// A node's lease is gone. `own` is this node: that its lease is missing is news each time.
    pub(super) fn remove(&mut self, node: NodeName, own: &NodeName) {
        if self.leases.remove(&node).is_some() || node == *own {
            self.note(node);
        }
    }

    fn note(&mut self, node: NodeName) {
        if let Some(nodes) = &mut self.since_read {
            nodes.insert(node.clone());
        }
        self.news.insert(node);
    }

    /// This node has written its lease.
    pub(super) fn wrote(&mut self, lease: Lease) {
        self.leases.insert(lease.node.clone(), lease.into());
    }

    /// A read of all leases begins.
    pub(super) fn begin_read(&mut self) {
        self.since_read = Some(BTreeSet::new());
    }

    /// The read is done. A lease that has changed since it began stays as the event had it, and so does that of `own`, which is known
    /// better here; a node that is missing is left to an event.
    pub(super) fn end_read(&mut self, leases: Vec<Arc<Lease>>, own: &NodeName) -> ReadResult {
        let since = self.since_read.take().unwrap_or_default();
        let mut result = ReadResult { changed: since.iter().any(|node| node != own), agrees: true };
        for lease in leases.into_iter().filter(|lease| lease.node != *own) {
            let (node, known) = (lease.node.clone(), self.leases.get(&lease.node));
            if since.contains(&node) {
                result.agrees &= known.is_none_or(|known| known.encapsulations == lease.encapsulations);
            } else if known != Some(&lease) {
                result.changed = true;
                self.news.insert(node.clone());
                if let Some(listing) = &mut self.listing {
                    listing.insert(node.clone(), Arc::clone(&lease));
                }
                self.leases.insert(node, lease);
            }
        }
        result
    }

    /// The read has failed.
    pub(super) fn drop_read(&mut self) {
        self.since_read = None;
    }
}

#[cfg(test)]
mod tests;
