//! What the daemon reports: problems and runs, to the log and to the status.

use std::collections::BTreeSet;

use super::logging::{self, LogThrottle};
use crate::status::board::Board;
use crate::status::doors::Doors;

/// The reports.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) status: Board,
    pub(super) throttle: LogThrottle,
    /// What the last full run has found wrong.
    of_run: BTreeSet<String>,
    /// What is wrong with this node's lease.
    of_lease: Option<String>,
    /// Both, as the log has them.
    logged: BTreeSet<String>,
    /// Open as long as the daemon runs.
    _listeners: Doors,
}

impl Reporter {
    pub(super) fn new(status: Board, listeners: Doors) -> Self {
        let (of_run, of_lease, logged) = (BTreeSet::new(), None, BTreeSet::new());
        Self { status, throttle: LogThrottle::default(), of_run, of_lease, logged, _listeners: listeners }
    }

    /// A full run has found this wrong, and nothing else. Gives all that is wrong.
    pub(super) fn set_run_problems(&mut self, problems: BTreeSet<String>) -> BTreeSet<String> {
        self.of_run = problems;
        self.log();
        self.logged.clone()
    }

    /// This is wrong with the lease, or nothing is.
    pub(super) fn set_lease_problem(&mut self, problem: Option<&str>) {
        if self.of_lease.as_deref() != problem {
            self.of_lease = problem.map(str::to_owned);
            self.log();
            self.status.set_problems(self.logged.iter().map(String::as_str));
        }
    }

    fn log(&mut self) {
        let now: BTreeSet<String> = self.of_run.iter().cloned().chain(self.of_lease.clone()).collect();
        logging::log_problems(&self.logged, &now);
        self.logged = now;
    }
}
