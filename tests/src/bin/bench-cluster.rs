//! `scripts/bench cluster`: netd beside flanneld on one real API server with 5,000 Nodes.
//!
//! Arguments choose parts: `nodes`, `switch`; none means all.

use std::process::ExitCode;

use netd_tests::{bench, isolation};

fn main() -> ExitCode {
    // What they are built from is outside of the namespaces.
    if !isolation::is_entered()
        && let Err(failure) = bench::cluster::prepare()
    {
        eprintln!("error: {failure}");
        return ExitCode::FAILURE;
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    isolation::measure(|| bench::cluster::run(&names))
}
