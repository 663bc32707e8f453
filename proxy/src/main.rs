//! The program `netd-proxy`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy::program::main(std::env::args_os())
}
