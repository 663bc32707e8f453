//! What is desired, as the plan that makes it from nothing. The addresses are in [`network`].

pub(crate) mod network;
mod plans;
mod rules;
mod switching;
mod told;

use std::process::Command;

/// What a command prints.
pub(crate) fn sh(line: &str) -> String {
    let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    assert!(done.status.success(), "`{line}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
