//! Storms: events by the thousand, a store that goes away and comes back another, a clock that jumps. Traffic between pods loses
//! nothing meanwhile, the end is right, and a person reads one line and not one per event.
//!
//! What lasts minutes in life lasts seconds here: from ten seconds on, all the waits of netd (its comparison, its poll of the
//! store, its retries) have come round. One outage lasts as long as in life, beside all the others.

#[path = "storms/bed.rs"]
mod bed;
#[path = "storms/clock.rs"]
mod clock;
#[path = "storms/jump.rs"]
mod jump;
#[path = "storms/kernel.rs"]
mod kernel_events;
#[path = "storms/outage.rs"]
mod outage;
#[path = "storms/store.rs"]
mod store_events;

use std::process::ExitCode;

use netd_tests::{suite, wall_clock};

fn main() -> ExitCode {
    suite::run_with(wall_clock::prepare, || {
        let subjects = [store_events::trials(), kernel_events::trials(), outage::trials(), clock::trials()];
        subjects.into_iter().flatten().chain([jump::trial(), outage::long()]).collect()
    })
}
