//! What the operator says: command line flags and the network configuration.
//!
//! Values to values; reading the files and the environment is the caller's.

pub mod flags;
