//! What the log says of what was done, and of what a person should know.

use std::time::Duration;

use ::reconcile::problem::{Changes, changes};
use tokio::time::Instant;

use super::Daemon;
use crate::problem::Problems;
use crate::reconcile::{Report, Trigger};
use crate::store::Store;

/// Of small changes the log tells once in this time: a peer that moves all the time is no news each time.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Small changes that the log has not told yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    runs: usize,
    changed: usize,
    took: Duration,
    last_line: Option<Instant>,
}

impl Untold {
    /// When they are told, whatever else happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.last_line.filter(|_| self.runs > 0).map(|last| last + BETWEEN_LINES)
    }

    fn rests(&self, now: Instant) -> bool {
        self.last_line.is_some_and(|last| now < last + BETWEEN_LINES)
    }

    fn push(&mut self, changed: usize, took: Duration) {
        *self = Self { runs: self.runs + 1, changed: self.changed + changed, took: self.took + took, ..*self };
    }
}

impl<S: Store> Daemon<S> {
    /// Says what was changed in some places, or leaves it to [`Self::tell_rest`].
    pub(super) fn tell_amended(&mut self, trigger: Trigger, changed: usize, took: Duration) {
        let (now, us) = (Instant::now(), micros(took));
        if changed == 0 {
        } else if self.untold.rests(now) {
            tracing::debug!(%trigger, changed, us, "reconciled");
            self.untold.push(changed, took);
        } else {
            self.tell_rest();
            tracing::info!(%trigger, changed, peers = self.cluster.peers.len(), us, "reconciled");
            self.untold.last_line = Some(now);
        }
    }

    /// Says what has been changed since the last line about small changes.
    pub(super) fn tell_rest(&mut self) {
        let Untold { runs, changed, took, .. } = std::mem::take(&mut self.untold);
        if runs > 0 {
            tracing::info!(
                runs,
                changed,
                peers = self.cluster.peers.len(),
                us = micros(took),
                "more was changed since"
            );
            self.untold.last_line = Some(Instant::now());
        }
    }

    /// Says what a full run has changed.
    pub(super) fn tell_run(&self, trigger: Trigger, report: &Report, took: Duration) {
        let (changed, failed) = (report.applied, report.failed.len());
        if changed > 0 || failed > 0 {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(%trigger, changed, failed, peers = self.cluster.peers.len(), ms, "reconciled");
        }
    }

    /// Logs the problems that are new and those that are over.
    pub(super) fn tell(&mut self, problems: Problems) {
        let Changes { new, over } = changes(&self.told, &problems);
        new.into_iter().for_each(|problem| tracing::warn!("{problem}"));
        over.into_iter().for_each(|problem| tracing::info!("no longer: {problem}"));
        self.told = problems;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_at_once_is_told_by_a_timer() {
        let now = Instant::now();
        let mut untold = Untold { last_line: Some(now), ..Untold::default() };
        assert_eq!(untold.next(), None, "nothing is left to tell");
        untold.push(2, Duration::from_micros(5));
        untold.push(1, Duration::from_micros(5));
        assert_eq!((untold.runs, untold.changed), (2, 3));
        let next = untold.next().expect("something is left to tell");
        assert!(untold.rests(now) && !untold.rests(next), "and by then a line may be written");
    }
}
