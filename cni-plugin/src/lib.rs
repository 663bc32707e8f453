//! The CNI plugin: one short execution for each verb of the specification.
//!
//! `call`, `conf`, `result`, `failure`, `attachment` and `ipam::range` are pure; `ipam` speaks to the directory of
//! reservations, `wire` to the kernel through `dataplane`; `verbs` puts them in order. Nothing here executes a program,
//! starts a runtime or talks to a server.
#![forbid(unsafe_code)]

pub mod attachment;
pub mod call;
pub mod conf;
pub mod failure;
pub mod ipam;
pub mod result;
pub mod version;
