//! When full runs happen: by the clock, after a failure, and on request, with a limit for requests that come in storms.

use std::time::Duration;

use tokio::time::Instant;

use crate::reconcile::Trigger;

/// How often the state without notifications is polled where `--iptables-resync` is not given.
const POLL: Duration = Duration::from_secs(10);
/// How often everything is read, whatever was notified.
const FULL: Duration = Duration::from_mins(5);
/// The first and the longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Full runs that a storm of events requests may take one part in so many of the time, once they have taken that much of `BURST`: among
/// thousands of peers a storm must not keep the node busy.
const SHARE: u32 = 10;
const BURST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_millis(500);

/// The times, and the request for a full run.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    poll: Instant,
    full: Instant,
    retry: Option<(Instant, Duration)>,
    /// When the full runs so far would have had their share.
    earned: Instant,
    /// Until when requests that come in storms wait.
    rest: Instant,
    /// A full run is requested, at once or after the rest.
    pub(super) requested: Option<Trigger>,
}

/// True for triggers that come in storms.
fn is_limited(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::StoreChanged | Trigger::KernelChanged)
}

impl Schedule {
    /// From now on. `every` is how often to poll, where that is configured.
    pub(super) fn new(every: Option<Duration>, now: Instant) -> Self {
        let every = every.unwrap_or(POLL);
        Self { every, poll: now + every, full: now + FULL, retry: None, earned: now, rest: now, requested: None }
    }

    /// Requests a full run. Of several triggers, one that is not limited counts.
    pub(super) fn request(&mut self, trigger: Trigger) {
        if self.requested.is_none_or(|requested| is_limited(requested) && !is_limited(trigger)) {
            self.requested = Some(trigger);
        }
    }

    /// Takes the request, where its time has come.
    pub(super) fn take_request(&mut self, now: Instant) -> Option<Trigger> {
        self.requested.take_if(|trigger| !is_limited(*trigger) || self.rest <= now)
    }

    /// When it is time for something.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let next = self.poll.min(self.full).min(self.retry.map_or(self.full, |(at, _)| at));
        match self.requested {
            Some(trigger) if is_limited(trigger) => next.min(self.rest),
            Some(_) => now,
            None => next,
        }
    }

    /// Requests the full run for which it is time by the clock. True where it is time to poll the state of which the kernel sends no
    /// notifications.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.full <= now {
            self.full = now + FULL;
            self.request(Trigger::Periodic);
        } else if self.retry.is_some_and(|(at, _)| at <= now) {
            self.request(Trigger::Retry);
        } else if self.poll <= now {
            self.poll = now + self.every;
            return true;
        }
        false
    }

    /// A full run has ended, and left nothing undone where it was clean.
    pub(super) fn ran(&mut self, took: Duration, clean: bool, now: Instant) {
        self.earned = (self.earned.max(now) + took * SHARE).min(now + BURST + LONGEST_REST);
        self.rest = self.earned - BURST;
        (self.poll, self.full) = (now + self.every, now + FULL);
        self.retry = if clean {
            None
        } else {
            let wait = self.retry.map_or(RETRY.0, |(_, last)| (last * 2).min(RETRY.1));
            Some((now + wait, wait))
        };
    }
}

#[cfg(test)]
mod tests;
