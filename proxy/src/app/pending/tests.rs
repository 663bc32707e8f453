use std::time::Duration;

use super::*;
use crate::model::{PortName, Protocol};

const NONE: [u64; 0] = [];
const BEGAN: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: u64) -> Timestamp {
    BEGAN + Duration::from_secs(seconds)
}

fn pending(times: impl IntoIterator<Item = Timestamp>) -> Pending {
    let key = PortKey { name: PortName::new("ns", "web", "http", Protocol::Tcp), family: Family::V4 };
    let mut pending = Pending::new(BEGAN);
    for time in times {
        pending.endpoints_changed([&key].into_iter(), Some(time));
    }
    pending
}

/// How many seconds ago the changes were of which a run learns that ends ten seconds after the begin.
fn learned(pending: &mut Pending, is_clean: bool) -> Vec<u64> {
    let mut run = Run { is_clean, ..Run::new(Family::V4, false) };
    pending.complete(&mut run, at(10));
    let learned = run.since_changes.iter().map(Duration::as_secs).collect();
    pending.end(&[run]);
    learned
}

#[test]
fn a_change_is_counted_once_when_the_kernel_has_it() {
    let mut pending = pending([at(4), at(7)]);
    assert_eq!(learned(&mut pending, false), NONE, "the kernel has refused");
    assert_eq!(learned(&mut pending, true), [6, 3]);
    assert_eq!(learned(&mut pending, true), NONE);
}

#[test]
fn a_change_that_alters_no_table_is_not_counted_with_a_later_one() {
    let mut pending = pending([at(4)]);
    pending.end(&[]);
    assert_eq!(learned(&mut pending, true), NONE);
}

#[test]
fn a_change_of_before_the_begin_is_not_counted() {
    assert_eq!(learned(&mut pending([BEGAN - Duration::from_secs(1)]), true), NONE);
}

#[test]
fn memory_is_bounded_while_the_kernel_refuses() {
    let mut pending = pending((0..5000).map(|_| at(1)));
    assert_eq!(learned(&mut pending, true).len(), MOST_WAITING);
}
