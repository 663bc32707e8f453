//! How anything is kept true, knowing nothing of what it is.
#![forbid(unsafe_code)]

pub mod problem;
