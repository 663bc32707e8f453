//! Waiting: for something to become true, by a deadline, or for time to pass. The only place in which a test looks more than once.

use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// So many seconds; short to read in a test.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Calls `check` until it gives a value, or fails with its last answer once `within` is over.
///
/// # Errors
/// What `check` said last, with what was waited for and how long.
pub fn eventually<T>(within: Duration, what: &str, mut check: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= within => {
                return Err(Failure::new(format!("{what}: not within {within:?}: {last}")));
            }
            // What is waited for has many sources (netlink, files, another process), some of which send no event.
            // A short pause between looks serves all of them; it bounds the load and decides nothing.
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

/// Lets time pass, all of it, where that is what a test is about: the pace of a storm, the length of an outage. Nothing is
/// waited for. A thread that has waited for another one may find its next parking cut short.
pub fn sleep(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
