//! `scripts/bench services`: netd-proxy beside kube-proxy on one real API server with 10,000 Services.
//!
//! Arguments choose parts: `change`, `traffic`, `directory`, and the long ones `iptables`, `many`, `soak`, `away`; none means all
//! but the long ones.

use std::process::ExitCode;

use netd_tests::{bench, isolation};

fn main() -> ExitCode {
    // What they are built from is outside of the namespaces.
    if !isolation::is_entered()
        && let Err(failure) = bench::services::prepare()
    {
        eprintln!("error: {failure}");
        return ExitCode::FAILURE;
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    isolation::measure(|| bench::services::run(&names))
}
