//! When the daemon looks again without having been told of anything, and how long it rests after a full run.

use std::time::Duration;

use tokio::time::Instant;

/// How often what the kernel does not tell of is looked at where `--iptables-resync` says nothing.
const LOOK: Duration = Duration::from_secs(10);
/// How often everything is read, told of or not.
const FULL: Duration = Duration::from_mins(5);
/// The first and the longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Full runs that a storm of events asks for may take one part in so many of the time, once they have taken that much of
/// `BURST`: among thousands of peers a storm must not keep the node busy.
const SHARE: u32 = 10;
const BURST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_millis(500);

/// What it is time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// To look at what the kernel does not tell of.
    Look,
    /// To read everything.
    Full,
    /// To try again what failed.
    Retry,
}

/// The times.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    look: Instant,
    full: Instant,
    retry: Option<(Instant, Duration)>,
    /// When the full runs so far would have had their share.
    earned: Instant,
    rest: Instant,
}

impl Pace {
    /// From now on. `every` is how often to look, where that was said.
    pub(super) fn new(every: Option<Duration>, now: Instant) -> Self {
        let every = every.unwrap_or(LOOK);
        Self { every, look: now + every, full: now + FULL, retry: None, earned: now, rest: now }
    }

    /// When it is time for something.
    pub(super) fn next(&self) -> Instant {
        let retry = self.retry.map_or(self.full, |(at, _)| at);
        self.look.min(self.full).min(retry)
    }

    /// What it is time for.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.full <= now {
            self.full = now + FULL;
            Some(Due::Full)
        } else if self.retry.is_some_and(|(at, _)| at <= now) {
            Some(Due::Retry)
        } else if self.look <= now {
            self.look = now + self.every;
            Some(Due::Look)
        } else {
            None
        }
    }

    /// Until when events are left alone.
    pub(super) fn rest(&self) -> Instant {
        self.rest
    }

    /// A full run has ended, and left nothing undone where it was clean.
    pub(super) fn ran(&mut self, took: Duration, clean: bool, now: Instant) {
        self.earned = (self.earned.max(now) + took * SHARE).min(now + BURST + LONGEST_REST);
        self.rest = self.earned - BURST;
        (self.look, self.full) = (now + self.every, now + FULL);
        self.retry = if clean {
            None
        } else {
            let wait = self.retry.map_or(RETRY.0, |(_, last)| (last * 2).min(RETRY.1));
            Some((now + wait, wait))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gets_its_share_and_no_more() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start);
        let took = Duration::from_millis(40);
        let (mut now, mut busy) = (start, Duration::ZERO);
        while now < start + Duration::from_mins(1) {
            now = now.max(pace.rest()) + took;
            busy += took;
            pace.ran(took, true, now);
            assert!(pace.rest() <= now + LONGEST_REST, "nobody waits for longer");
        }
        assert!(busy * SHARE <= (now - start) + BURST + took * SHARE, "{busy:?} of {:?}", now - start);
    }

    #[test]
    fn what_comes_seldom_does_not_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start);
        for second in 1..10 {
            let now = start + Duration::from_secs(second);
            assert!(pace.rest() <= now, "after a second of quiet");
            pace.ran(Duration::from_millis(20), true, now);
        }
    }
}
