//! How listeners take connections, and short answers over HTTP.
#![forbid(unsafe_code)]

mod accept;
pub mod http;

pub use accept::accept_all;
