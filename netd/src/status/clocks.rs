//! Somebody sets the clock: remembered moments move with it, so that ages stay what they are. A machine without a clock of its own
//! begins in 1970 and is set right once it has a network.
//!
//! Pure: both clocks are arguments.

use std::time::Duration;

use super::Status;
use super::moment::Moment;

/// What is taken for the wall clock's own inaccuracy, in seconds: it is known in whole ones.
const INACCURATE: u64 = 2;

/// The clock that people set and the one that nobody can, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    pub(super) wall: Moment,
    pub(super) steady: Duration,
}

impl Clocks {
    /// By how many seconds the wall clock was set since then; 0 where it was not.
    pub(super) fn set_since(self, then: Self) -> i64 {
        let passed = self.steady.saturating_sub(then.steady).as_secs();
        let expected = then.wall.0.saturating_add(passed);
        let set = self.wall.0.cast_signed().saturating_sub(expected.cast_signed());
        if set.unsigned_abs() > INACCURATE { set } else { 0 }
    }
}

impl Status {
    /// Moves every moment by so many seconds.
    pub(super) fn shift(&mut self, seconds: i64) {
        let ways = self.peers.values_mut().flat_map(|peer| &mut peer.ways).map(|way| &mut way.since);
        let store =
            self.store.last_event.iter_mut().chain(self.store.trouble.iter_mut().map(|trouble| &mut trouble.since));
        let runs = self.last_reconcile.iter_mut().map(|run| &mut run.at).chain(&mut self.last_full_read);
        let problems = self.problems.iter_mut().map(|problem| &mut problem.since);
        let contested = self.contested.values_mut().filter_map(|contested| contested.next.as_mut());
        let all = ways.chain(store).chain(runs).chain(contested).chain(problems);
        for moment in all.chain([&mut self.started]) {
            moment.0 = moment.0.saturating_add_signed(seconds);
        }
    }
}

#[cfg(test)]
mod tests;
