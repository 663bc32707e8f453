//! What the log says of runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::reconcile::{Report, Trigger};

/// Small changes get one line of the log in this time: a peer that moves all the time is not worth a line each time.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Small changes that are not in the log yet.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    runs: usize,
    changed: usize,
    took: Duration,
    last_line: Option<Instant>,
}

impl LogThrottle {
    /// When [`Self::flush`] is due, whatever else happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.last_line.filter(|_| self.runs > 0).map(|last| last + BETWEEN_LINES)
    }

    fn rests(&self, now: Instant) -> bool {
        self.last_line.is_some_and(|last| now < last + BETWEEN_LINES)
    }

    fn push(&mut self, changed: usize, took: Duration) {
        *self = Self { runs: self.runs + 1, changed: self.changed + changed, took: self.took + took, ..*self };
    }

    /// Logs an incremental run, or leaves it to [`Self::flush`].
    pub(super) fn log_incremental(&mut self, trigger: Trigger, changed: usize, peers: usize, took: Duration) {
        let (now, us) = (Instant::now(), micros(took));
        if changed == 0 {
        } else if self.rests(now) {
            tracing::debug!(trigger = %trigger.name(), changed, us, "reconciled");
            self.push(changed, took);
        } else {
            self.flush(peers);
            tracing::info!(trigger = %trigger.name(), changed, peers, us, "reconciled");
            self.last_line = Some(now);
        }
    }

    /// Logs the incremental runs since the last line about one.
    pub(super) fn flush(&mut self, peers: usize) {
        let Self { runs, changed, took, .. } = std::mem::take(self);
        if runs > 0 {
            tracing::info!(runs, changed, peers, us = micros(took), "more was changed since");
            self.last_line = Some(Instant::now());
        }
    }
}

/// Logs a full run that has changed something, or failed to.
pub(super) fn log_full(trigger: Trigger, report: &Report, peers: usize, took: Duration) {
    let (changed, failed) = (report.applied, report.failed.len());
    if changed > 0 || failed > 0 {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(trigger = %trigger.name(), changed, failed, peers, ms, "reconciled");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
