//! What the daemon reports: problems and runs, to the log and to the status.

use ::reconcile::problem::{Changes, changes};

use super::logging::LogThrottle;
use crate::problem::{Kind, Problems};
use crate::reconcile::problems::is_count;
use crate::status::listeners::Listeners;
use crate::status::publisher::StatusPublisher;

/// The reports.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) status: StatusPublisher,
    pub(super) throttle: LogThrottle,
    /// What the last full run has found wrong.
    of_run: Problems,
    /// What is wrong with this node's lease.
    of_lease: Problems,
    /// What is wrong with records of the store.
    of_store: Problems,
    /// All, as the log has them.
    logged: Problems,
    /// Open as long as the daemon runs.
    _listeners: Listeners,
}

impl Reporter {
    pub(super) fn new(status: StatusPublisher, listeners: Listeners) -> Self {
        let none = Problems::new;
        let (of_run, of_lease, of_store, logged) = (none(), none(), none(), none());
        Self { status, throttle: LogThrottle::default(), of_run, of_lease, of_store, logged, _listeners: listeners }
    }

    /// A full run has found this wrong, and nothing else. Gives all that is wrong.
    pub(super) fn set_run_problems(&mut self, problems: Problems) -> &Problems {
        self.of_run = problems;
        self.log();
        &self.logged
    }

    /// This is wrong with the lease. True where another machine had this node's name before.
    pub(super) fn set_lease_problems(&mut self, problems: &Problems) -> bool {
        let was_taken = self.of_lease.iter().any(|problem| problem.kind == Kind::NodeNameTaken);
        let says_the_same = self.of_lease.len() == problems.len()
            && self.of_lease.iter().zip(problems).all(|(known, problem)| problem.says_the_same_as(known));
        if !says_the_same {
            self.of_lease.clone_from(problems);
            self.log();
            self.status.update(|status, now| status.set_problems(&self.logged, now));
        }
        was_taken
    }

    /// This is wrong with records of the store.
    pub(super) fn set_store_problems(&mut self, problems: Problems) {
        self.of_store = problems;
        self.log();
        self.status.update(|status, now| status.set_problems(&self.logged, now));
    }

    /// Logs the problems that are new, and those that have ended. A count of records is logged when there begin to be many, and when they
    /// are few again.
    fn log(&mut self) {
        let now = [&self.of_run, &self.of_lease, &self.of_store].into_iter().flatten().cloned().collect();
        let Changes { new, over } = changes(&self.logged, &now);
        for problem in new.into_iter().filter(|problem| !is_count(problem) || !self.logged.contains(*problem)) {
            tracing::warn!("{problem}");
        }
        for problem in over {
            tracing::info!("no longer: {problem}");
        }
        self.logged = now;
    }
}
