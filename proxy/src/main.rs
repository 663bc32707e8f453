//! The program `netd-proxy`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// musl's own allocator maps and unmaps memory for a few pieces at a time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    proxy::program::main(std::env::args_os())
}
