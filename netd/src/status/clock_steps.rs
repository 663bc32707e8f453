//! Steps of the wall clock: remembered timestamps move with the clock, so that ages stay right. A machine without a clock of its own
//! starts in 1970 and gets the time once it has a network.
//!
//! Pure: both clocks are arguments.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Status;

/// A smaller difference, in seconds, is no step: the wall clock is known in whole seconds.
const INACCURATE: u64 = 2;

/// The wall clock and the monotonic clock, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockReading {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Duration,
}

impl ClockReading {
    /// By how many seconds the wall clock was set since `then`; 0 if it was not.
    pub(super) fn step_since(self, then: Self) -> i64 {
        let passed = self.monotonic.saturating_sub(then.monotonic).as_secs().cast_signed();
        let step = self.wall.as_second() - then.wall.as_second() - passed;
        if step.unsigned_abs() > INACCURATE { step } else { 0 }
    }
}

impl Status {
    /// Moves every timestamp by so many seconds.
    pub(super) fn shift(&mut self, seconds: i64) {
        let routes = self.peers.values_mut().flat_map(|peer| &mut peer.routes).map(|route| &mut route.since);
        let store =
            self.store.last_event.iter_mut().chain(self.store.trouble.iter_mut().map(|trouble| &mut trouble.since));
        let runs = self.last_reconcile.iter_mut().map(|run| &mut run.at).chain(&mut self.last_full_read);
        let problems = self.problems.iter_mut().map(|problem| &mut problem.since);
        let contested = self.contested.values_mut().filter_map(|contested| contested.next.as_mut());
        let all = routes.chain(store).chain(runs).chain(contested).chain(problems);
        for timestamp in all.chain([&mut self.daemon.started]) {
            *timestamp = timestamp.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(*timestamp);
        }
    }
}

#[cfg(test)]
mod tests;
