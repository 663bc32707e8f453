//! How listeners take connections, short answers over HTTP, and metrics of the process that gives them.
#![forbid(unsafe_code)]

mod accept;
pub mod http;
pub mod process;

pub use accept::accept_all;
