//! The node daemon: takes the node's subnet lease from a store, learns its peers and keeps the kernel's overlay as they need it.
//!
//! The program around these rooms is `main.rs`; nothing depends on this crate.
#![forbid(unsafe_code)]

pub mod allocation;
mod caseless;
pub mod config;
pub mod conflist;
pub mod interface;
pub mod model;
pub mod store;
pub mod subnet_env;
mod whole_file;
