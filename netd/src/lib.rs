//! The node daemon: takes the node's subnet lease from a store, learns its peers and keeps the kernel's overlay as they need it.
//!
//! The program around these rooms is `main.rs`; nothing depends on this crate.
#![forbid(unsafe_code)]

pub mod accept_ra;
mod access_error;
pub mod bridge;
pub mod cleanup;
pub mod clock;
pub mod config;
pub mod conflist;
pub mod daemon;
pub mod diversion;
pub mod doctor;
pub mod embedded_proxy;
pub mod host;
pub mod identity;
pub mod install;
mod lock;
pub mod node;
mod owned;
pub mod problem;
pub mod reconcile;
pub mod reconciler;
pub mod relaxed_rp_filter;
mod service_manager;
pub mod status;
pub mod store;
pub mod subnet_env;
mod whole_file;
