//! This node's own lease: published as the kernel has it, and restored where the store has lost or altered it. The work is the
//! publisher's; here is decided what to ask it for, and what its answers mean.

use std::net::IpAddr;
use std::time::Duration;

use dataplane::types::PerFamily;
use network::chain;
use network::model::{EncapsulationSupport, Lease};
use network::net_conf::NetConf;
use network::overlay::Outcome;
use tokio::time::Instant;

use super::advertisement::OwnAdvertisement;
use super::lease_condition::{self, LeaseCondition};
use super::publisher::{Answer, Publisher, Request};
use super::store_view::StoreView;
use crate::problem::Problem;
use crate::reconcile::Trigger;
use crate::store::{LeaseRequest, Notice};

/// The first and the longest wait before the store is asked again after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The lease.
#[derive(Debug)]
pub(super) struct LocalLease {
    pub(super) publisher: Publisher,
    /// What the publications mean for plans, and for the node's first pods.
    pub(super) advertisement: OwnAdvertisement,
    /// How this node takes its subnets.
    pub(super) request: LeaseRequest,
    pub(super) condition: LeaseCondition,
    /// When the request in progress began.
    in_progress: Option<Duration>,
    /// An event of this node's lease, or a whole list, has come since then.
    has_event: bool,
    /// When to ask again, and how long that wait is; none after a success, and where the store can be followed again or has another
    /// lease of this node.
    pub(super) retry: Option<(Duration, Duration)>,
    /// What times are counted from: before the peers' leases were read.
    epoch: Instant,
    /// The addresses that this machine has published.
    addresses: Vec<PerFamily<IpAddr>>,
}

impl LocalLease {
    /// Goes on from the lease that was acquired at the start.
    pub(super) fn new(publisher: Publisher, request: LeaseRequest, acquired: &Lease, epoch: Instant) -> Self {
        let (advertisement, condition) = (OwnAdvertisement::new(acquired), LeaseCondition::default());
        Self {
            publisher,
            advertisement,
            request,
            condition,
            in_progress: None,
            has_event: false,
            retry: None,
            epoch,
            addresses: vec![acquired.public],
        }
    }

    /// A full run has left the kernel as this lease says. Where some of its changes have `failed`, the kernel may still be as peers know
    /// it so far, and nothing of that is withdrawn.
    pub(super) fn want(&mut self, own: &Lease, outcome: &Outcome, failed: bool) {
        let former = self.advertisement.support().filter(|_| failed);
        let support = former.iter().fold(outcome.advertised.clone(), EncapsulationSupport::beside);
        self.advertisement
            .want(Lease { encapsulations: Some(support), ..own.clone() }, !outcome.unpublished.is_empty());
    }

    /// When [`Self::proceed`] has something to do even though nothing happens.
    pub(super) fn next(&self) -> Option<Instant> {
        let at = match self.retry {
            _ if self.in_progress.is_some() => None,
            Some((at, _)) => Some(at),
            None => self.advertisement.next_drained(),
        };
        at.map(|at| self.epoch + at)
    }

    /// The store has sent an event of this node's lease, or a whole list.
    pub(super) fn take_event(&mut self) {
        (self.retry, self.has_event) = (None, true);
    }

    /// Asks the publisher for what is to be done next, if anything. `stored` is this node's lease as the store has it. True where a
    /// write begins: then more may be published than before.
    pub(super) fn proceed(&mut self, stored: Option<&Lease>, conf: &NetConf, view: &mut StoreView) -> bool {
        let now = self.epoch.elapsed();
        if self.in_progress.is_some() || self.retry.is_some_and(|(at, _)| now < at) {
            return false;
        }
        let (wanted, needs_read) = (&self.advertisement.wanted, self.advertisement.needs_read(now));
        let request = match stored {
            Some(stored) if stored.subnets != wanted.subnets => {
                let problem = lease_condition::other_subnets(stored.subnets, wanted.subnets);
                self.report_own(Some(problem));
                needs_read.then_some(Request::Read)
            }
            Some(stored) if stored.public != wanted.public && !self.addresses.contains(&stored.public) => {
                let problem = lease_condition::name_taken(stored, wanted);
                self.report_own(Some(problem));
                needs_read.then_some(Request::Read)
            }
            // A write that failed has changed what this node may do, and only one that is answered gives that back.
            Some(stored) if stored == wanted && !self.advertisement.is_unconfirmed() => {
                self.report_own(None);
                needs_read.then_some(Request::Read)
            }
            Some(_) => Some(Request::Write(self.advertisement.begin_write())),
            None => {
                let lease = self.advertisement.begin_write();
                let request = LeaseRequest { previous: lease.subnets, ..self.request.clone() };
                Some(Request::Restore { request, conf: conf.clone().into(), lease })
            }
        };
        if !needs_read {
            self.report_unread(None);
        }
        let Some(request) = request else {
            self.retry = None;
            return false;
        };
        let writes = !matches!(request, Request::Read);
        if writes && !self.addresses.contains(&self.advertisement.wanted.public) {
            self.addresses.push(self.advertisement.wanted.public);
        } else if !writes {
            view.begin_read();
        }
        (self.in_progress, self.has_event) = (Some(now), false);
        self.publisher.request(request);
        writes
    }

    /// Takes an answer; gives why a full run is needed, if one is. `pending` is true where changes of peers wait for a run already.
    pub(super) fn answered(&mut self, answer: Answer, view: &mut StoreView, pending: bool) -> Option<Trigger> {
        let begun = self.in_progress.take().unwrap_or_default();
        let now = self.epoch.elapsed();
        match answer {
            Answer::Written(lease) => {
                self.advertisement.written(lease.clone(), now);
                // An event since the write began may be the newer of the two. Where it is the older, the lease is written once more.
                if !self.has_event {
                    view.wrote(lease);
                }
                self.retry = None;
                self.report_own(None);
                None
            }
            Answer::Read(leases) => {
                let read = view.end_read(leases, &self.request.node);
                self.retry = None;
                self.report_unread(None);
                if !read.agrees {
                    // An event has passed this read. The next one shows which of the two is the newer.
                    return None;
                }
                let effect = self.advertisement.read(begun, read.changed || pending);
                if effect.run_due {
                    Some(Trigger::Startup)
                } else if effect.drained {
                    Some(Trigger::Lingered)
                } else {
                    effect.may_send_more.then_some(Trigger::StoreChanged)
                }
            }
            Answer::WriteFailed(problem) => {
                self.retry_later(now);
                self.report_own(Some(problem));
                None
            }
            Answer::ReadFailed(error) => {
                view.drop_read();
                self.retry_later(now);
                tracing::debug!("the peers' leases cannot be read: {}", chain(&error));
                // Encapsulations that drain may stay open for longer; that is no fault.
                let waits = self.advertisement.is_waiting().then(|| lease_condition::not_read(&error));
                self.report_unread(waits);
                None
            }
        }
    }

    fn retry_later(&mut self, now: Duration) {
        let wait = self.retry.map_or(RETRY.0, |(_, last)| (last * 2).min(RETRY.1));
        self.retry = Some((now + wait, wait));
    }

    fn report_own(&mut self, problem: Option<Problem>) {
        let notices = self.condition.set_own(problem);
        self.notify(notices);
    }

    fn report_unread(&mut self, problem: Option<Problem>) {
        let notices = self.condition.set_unread(problem);
        self.notify(notices);
    }

    fn notify(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.publisher.notify(notice);
        }
    }
}

#[cfg(test)]
mod tests;
