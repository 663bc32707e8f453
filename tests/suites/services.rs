//! Services with real packets: netd-proxy on one node, from a directory of objects, with clients and endpoints around it.

use std::process::ExitCode;

use netd_tests::suite::test;

#[path = "services/ask.rs"]
mod ask;
#[path = "services/bed.rs"]
mod bed;
#[path = "services/cases.rs"]
mod cases;
#[path = "services/objects.rs"]
mod objects;

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        for name in ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"] {
            trials.push(test(format!("cases/{name}"), move || cases::run(&format!("{name}.cases"))));
        }
        trials
    })
}
