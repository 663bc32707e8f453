//! The CNI plugin's binary; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use dataplane::arena::Arena;

#[global_allocator]
static MEMORY: Arena = Arena::new();

fn main() -> ExitCode {
    let argv0 = std::env::args().next().unwrap_or_default();
    netd_cni::run(&argv0)
}
