//! What peers can know of this node's encapsulations, and what this node may do because of that, while the store is written and read by
//! a task that may take any time.
//!
//! Pure: the time is an argument, counted from before the peers' leases were read. The rules are those of
//! [`network::overlay::transition`]:
//!
//! - This node sends by an encapsulation only after it has published that and has read the peers' leases after that.
//!   [`OwnAdvertisement::may_send`] says by which it may send now; a plan uses no other.
//! - This node stops to receive by an encapsulation only after it has published that, has waited for the last packets, and has read the
//!   peers' leases after that. Until then the encapsulation is in [`OwnAdvertisement::support`] or in [`OwnAdvertisement::draining`].
//! - A node that had published nothing reads the peers' leases once more after its first publication, and has pods only then:
//!   [`OwnAdvertisement::may_have_pods`].
//!
//! There is one write or one read at a time. A write whose answer did not come may have been made: what it says counts as published for
//! the second rule, and not for the first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use network::model::{Encapsulation, EncapsulationSupport, Lease};

/// How long this node receives by an encapsulation after it has published that it no longer does: the last packets may be under way.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// The state.
#[derive(Debug, Clone)]
pub(crate) struct OwnAdvertisement {
    /// This node's lease as the store has it, by the last answer.
    stored: Lease,
    /// The lease that the store is to have, from the last run that left the kernel so.
    pub(crate) wanted: Lease,
    /// What a write without an answer may have published.
    unconfirmed: Option<EncapsulationSupport>,
    /// By which this node may send; `None`, for any, where it has published nothing.
    pub(crate) may_send: Option<BTreeSet<Encapsulation>>,
    /// The encapsulations by which this node receives until that time, although it has published that it no longer does.
    draining: BTreeMap<Encapsulation, Duration>,
    recheck: Recheck,
    /// The last run has left out routes that this node may not use yet.
    restricted: bool,
    /// The peers' leases have to be read before this node sends by all that it has published.
    unread: bool,
}

/// How far a node is that had published nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recheck {
    /// Its first publication is still to come.
    Unpublished,
    /// The peers' leases are to be read once more.
    ReadDue,
    /// A full run is to follow them, one that leaves out no route.
    RunDue,
    /// All of that is done, or an earlier netd has done it.
    Done,
}

/// What follows from a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReadEffect {
    /// This node may send by more than before.
    pub(crate) may_send_more: bool,
    /// Encapsulations have drained; the next run closes them unless a peer sends by them.
    pub(crate) drained: bool,
    /// The peers' leases have changed since the node's first run: pods wait for another full run.
    pub(crate) run_due: bool,
}

impl OwnAdvertisement {
    /// Goes on from the lease that the store has at the start. An earlier netd of this node may have published what is in it; the first
    /// list of the peers' leases is read after that.
    pub(crate) fn new(stored: &Lease) -> Self {
        let may_send = stored.encapsulations.as_ref().map(|support| support.sends.clone());
        let recheck = if stored.encapsulations.is_some() { Recheck::Done } else { Recheck::Unpublished };
        let (stored, wanted) = (stored.clone(), stored.clone());
        let (unconfirmed, draining, restricted, unread) = (None, BTreeMap::new(), false, false);
        Self { stored, wanted, unconfirmed, may_send, draining, recheck, restricted, unread }
    }

    /// All that peers may rely on: what is published, and what a write may have published.
    pub(crate) fn support(&self) -> Option<EncapsulationSupport> {
        match (self.stored.encapsulations.clone(), &self.unconfirmed) {
            (Some(stored), Some(unconfirmed)) => Some(stored.beside(unconfirmed)),
            (stored, unconfirmed) => stored.or_else(|| unconfirmed.clone()),
        }
    }

    /// The encapsulations in which packets may still be under way, although no peer should send by them.
    pub(crate) fn draining(&self) -> BTreeSet<Encapsulation> {
        self.draining.keys().copied().collect()
    }

    /// A full run has left the kernel as this lease says. It was `restricted` where it has left out routes that this node may not use
    /// yet.
    pub(crate) fn want(&mut self, lease: Lease, restricted: bool) {
        (self.wanted, self.restricted) = (lease, restricted);
        if self.recheck == Recheck::RunDue && !restricted {
            self.recheck = Recheck::Done;
        }
    }

    /// True where the last write may have been made or not.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// True where this node waits with something until the peers' leases are read: with a route, or with its first pods.
    pub(crate) fn is_waiting(&self) -> bool {
        self.unread || matches!(self.recheck, Recheck::ReadDue | Recheck::RunDue)
    }

    /// True where this node's first pods may come: no peer has closed a way to it that it does not know of.
    pub(crate) fn may_have_pods(&self) -> bool {
        self.recheck == Recheck::Done
    }

    /// The wanted lease is about to be written. From now on peers may read that this node no longer sends by what is not in it.
    pub(crate) fn begin_write(&mut self) -> Lease {
        let Some(support) = &self.wanted.encapsulations else { return self.wanted.clone() };
        match &mut self.may_send {
            Some(may_send) => may_send.retain(|encapsulation| support.sends.contains(encapsulation)),
            None => self.may_send = Some(support.sends.clone()),
        }
        // Until this write is answered, no read can prove what the store has.
        self.unread = false;
        let unconfirmed = self.unconfirmed.take();
        self.unconfirmed = Some(unconfirmed.iter().fold(support.clone(), EncapsulationSupport::beside));
        self.wanted.clone()
    }

    /// The store has this lease now.
    pub(crate) fn written(&mut self, lease: Lease, now: Duration) {
        let relied_on = self.support().map(|support| support.receives).unwrap_or_default();
        self.unconfirmed = None;
        self.stored = lease;
        let Some(support) = &self.stored.encapsulations else { return };
        let closes = relied_on.into_keys().filter(|encapsulation| !support.receives.contains_key(encapsulation));
        self.draining.extend(closes.map(|encapsulation| (encapsulation, now + DRAIN)));
        if self.recheck == Recheck::Unpublished {
            // A peer that closes a way waits longer than this for a node that had not published yet.
            let is_quick = now <= DRAIN / 2 && !self.restricted;
            self.recheck = if is_quick { Recheck::Done } else { Recheck::ReadDue };
        }
        self.unread = self.may_send.as_ref().is_some_and(|may_send| !support.sends.is_subset(may_send));
    }

    /// True where the peers' leases have to be read.
    pub(crate) fn needs_read(&self, now: Duration) -> bool {
        self.unread || self.recheck == Recheck::ReadDue || self.next_drained().is_some_and(|until| until <= now)
    }

    /// When the next encapsulation has drained.
    pub(crate) fn next_drained(&self) -> Option<Duration> {
        self.draining.values().min().copied()
    }

    /// The peers' leases were read, the read began at `begun`, and no write has begun since. `changed` is true where they are not as
    /// they were known before.
    pub(crate) fn read(&mut self, begun: Duration, changed: bool) -> ReadEffect {
        let published = self.stored.encapsulations.as_ref().map(|support| support.sends.clone());
        let may_send_more = std::mem::take(&mut self.unread);
        if may_send_more && published.is_some() {
            self.may_send = published;
        }
        let before = self.draining.len();
        self.draining.retain(|_, until| *until > begun);
        let drained = self.draining.len() < before;
        if self.recheck == Recheck::ReadDue {
            self.recheck = if changed || self.restricted { Recheck::RunDue } else { Recheck::Done };
        }
        ReadEffect { may_send_more, drained, run_due: self.recheck == Recheck::RunDue }
    }
}

#[cfg(test)]
mod tests;
