//! When the proxy works although nothing has changed.

use tokio::time::{Duration, Instant};

/// How often everything is compared with the kernel, whatever the notifications say.
const PERIOD: Duration = Duration::from_hours(1);
/// How long a run waits after one that the kernel refused or could not answer.
const RETRY: Duration = Duration::from_secs(5);

/// The clock.
#[derive(Debug)]
pub(super) struct Schedule {
    began: Instant,
    next_period: Instant,
    /// When to try again what failed.
    retry: Option<Instant>,
}

impl Default for Schedule {
    fn default() -> Self {
        let began = Instant::now();
        Self { began, next_period: began + PERIOD, retry: None }
    }
}

impl Schedule {
    /// The time since the begin of the process.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When to work next: `others` are times since the begin of the process.
    pub(super) fn next(&self, others: impl Iterator<Item = Duration>) -> Instant {
        others.map(|at| self.began + at).chain(self.retry).fold(self.next_period, Instant::min)
    }

    /// Work begins. True where everything is to be compared with the kernel.
    pub(super) fn begin(&mut self) -> bool {
        self.retry = None;
        let now = Instant::now();
        let is_due = self.next_period <= now;
        if is_due {
            self.next_period = now + PERIOD;
        }
        is_due
    }

    /// Something failed and is to be tried again soon.
    pub(super) fn retry(&mut self) {
        self.retry.get_or_insert_with(|| Instant::now() + RETRY);
    }
}
