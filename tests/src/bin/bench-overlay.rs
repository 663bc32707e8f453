//! `scripts/bench overlay`: what the daemon costs and how quick it is, on the real kernel in namespaces of its own.
//!
//! Arguments choose parts: `cold`, `change`, `idle`, `drift`, `foreign`, `join`, `throughput`, `conntrack`; none means all.

use std::process::ExitCode;

use netd_tests::failure::Outcome;
use netd_tests::{bench, binaries, isolation};

fn main() -> ExitCode {
    isolation::measure(measure)
}

fn measure() -> Outcome {
    println!("netd: {}\n", binaries::netd()?.display());
    let names: Vec<String> = std::env::args().skip(1).collect();
    bench::run(&names)
}
