//! `scripts/bench overlay`: what the daemon costs and how quick it is, on the real kernel in namespaces of its own.
//!
//! Arguments choose parts: `cold`, `change`, `idle`, `drift`, `join`, `throughput`; none means all.

use std::process::ExitCode;

use netd_tests::failure::{Outcome, Told};
use netd_tests::{bench, binaries, isolation};
use nix::mount::{MsFlags, mount};

fn main() -> ExitCode {
    if let Err(code) = isolation::enter_or_exit() {
        return code;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome {
    // Processes have other numbers in here than in the machine's /proc.
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).told("mount /proc")?;
    println!("netd: {}\n", binaries::netd()?.display());
    let names: Vec<String> = std::env::args().skip(1).collect();
    bench::run(&names)
}
