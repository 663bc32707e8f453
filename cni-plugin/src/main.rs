//! The CNI plugin's binary; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// musl's own allocator maps and unmaps memory for a few pieces at a time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let argv0 = std::env::args().next().unwrap_or_default();
    netd_cni::run(&argv0)
}
