//! Objects that something else undoes again and again: in the status, and in its table.
//!
//! Pure: the time is an argument.

use std::time::Duration;

use jiff::Timestamp;
use network::patience::Held;

use super::{ContestedObject, Status};
use crate::clock;

/// The table counts the rest.
const SHOWN: usize = 10;

impl Status {
    /// A run has deferred these. netd is not ready while one of them is undone.
    pub fn held(&mut self, held: &Held, now: Timestamp) {
        let entry = |contested: &network::patience::Contested| {
            // Rounded up: by then netd has tried.
            let next = contested
                .next
                .map(|wait| now + Duration::from_secs(wait.as_millis().div_ceil(1000).try_into().unwrap_or(0)));
            (contested.object.to_string(), ContestedObject { times: contested.times, next })
        };
        self.contested = held.contested.iter().map(entry).collect();
        self.daemon.ready &= held.contested.iter().all(|contested| contested.next.is_none());
    }

    /// A line for each contested object: its name, how often it was restored, what comes next.
    pub(super) fn contested_lines(&self, now: Timestamp) -> Vec<Vec<String>> {
        let line = |(object, contested): (&String, &ContestedObject)| {
            let next = match contested.next {
                None => "in place".to_owned(),
                Some(at) => format!("undone, next try in {}", clock::age(now, at)),
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
