//! What is left undone because something else undoes it again and again: as the status has it, and its table.
//!
//! Pure: the time is an argument.

use super::moment::Moment;
use super::{Contested, Status};
use crate::reconcile::Deferred;

/// More are only counted in the table.
const SHOWN: usize = 10;

impl Status {
    /// A run has left this for later. What is missing meanwhile makes netd unready.
    pub fn deferred(&mut self, deferred: &Deferred, now: Moment) {
        let entry = |contested: &::reconcile::Contested<network::key::Key>| {
            // To the next whole second: then it has been tried.
            let next =
                contested.next.map(|wait| Moment(now.0 + wait.as_millis().div_ceil(1000).try_into().unwrap_or(0)));
            (contested.key.to_string(), Contested { times: contested.times, next })
        };
        self.contested = deferred.contested.iter().map(entry).collect();
        self.ready &= deferred.contested.iter().all(|contested| contested.next.is_none());
    }

    /// A line for each contested object: what it is, how often it was put back, what comes next.
    pub(super) fn contested_lines(&self, now: Moment) -> Vec<Vec<String>> {
        let line = |(object, contested): (&String, &Contested)| {
            let next = match contested.next {
                None => "in place".to_owned(),
                Some(at) => format!("undone, next try in {}", now.age(at)),
            };
            vec![object.clone(), format!("put back {} times", contested.times), next]
        };
        let mut lines: Vec<_> = self.contested.iter().take(SHOWN).map(line).collect();
        if self.contested.len() > SHOWN {
            lines.push(vec![format!("and {} more", self.contested.len() - SHOWN)]);
        }
        lines
    }
}
