//! What `scripts/bench overlay` measures of the daemon, part by part. It prints and decides nothing.
//!
//! Everything runs on the real kernel in namespaces of its own, with the program that `NETD_BIN` names.

mod bed;
mod change;
pub mod cluster;
mod cold;
mod conntrack;
mod drift;
mod figures;
mod foreign;
mod idle;
mod join;
mod kernel_events;
mod process;
pub mod services;
mod throughput;

use crate::failure::Outcome;

/// A part, by the name under which it can be asked for.
type Part = (&'static str, fn() -> Outcome);

/// The parts, in the order in which they are measured.
const PARTS: [Part; 8] = [
    ("cold", cold::measure),
    ("change", change::measure),
    ("idle", idle::measure),
    ("drift", drift::measure),
    ("foreign", foreign::measure),
    ("join", join::measure),
    ("throughput", throughput::measure),
    ("conntrack", conntrack::measure),
];

/// Few peers, and as many as the figures are about.
const SIZES: [u32; 2] = [10, 5000];

/// Measures the parts of these names, or all.
///
/// # Errors
/// Where a name is no part's, or something cannot be measured.
pub fn run(names: &[String]) -> Outcome {
    run_parts(&PARTS, names)
}

fn run_parts(parts: &[Part], names: &[String]) -> Outcome {
    let known: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        crate::fail!("there is no part {unknown}; there are {}", known.join(", "));
    }
    let wanted = parts.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|asked| asked == name));
    for (_, measure) in wanted {
        measure()?;
        println!();
    }
    Ok(())
}
