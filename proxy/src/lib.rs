//! Services: what Services and `EndpointSlices` mean for the packets of a node.
//!
//! ```text
//! source (API server, directory) ── events ──▶ services::Services ── topology ──▶ Resolved, one for each service port
//!        Resolved ── ruleset ──▶ elements of one table for each family ── keeper ──▶ the kernel
//! ```
//!
//! | room | holds |
//! |---|---|
//! | `model` | Services and endpoints as values, and the events about them; pure |
//! | `services` | the state that is built of the events, and conflicts between Services; pure |
//! | `topology` | which endpoints of a service port take part, and why the others do not; pure |
//! | `source` | the API's objects, converted at the border, and the directory they may come from |
//! | `config` | kube-proxy's configuration file and flags |
//! | `ruleset` | the rules of the table, and which elements a service port is; pure |
//! | `keeper` | keeps the kernel's table as the ruleset says |
//! | `conntrack` | deletes flows of UDP and SCTP that go to an endpoint that is gone |
//! | `kube_proxy` | whether kube-proxy runs on the node, and the removal of the rules that it leaves |
//! | `events` | what the owners of Services should know, as Events |
//! | `health` | health checks and metrics over HTTP |
//! | `loopback` | node ports on loopback: listeners that pass connections on |
//! | `app` | the loop: a source, the tables, the clock |
//! | `cleanup` | removes the tables |
//! | `listing` | what is programmed, for `netd services` |
//! | `program` | the program `netd-proxy`: its arguments and commands |
//! | `trace` | what becomes of a packet in a table, without sending one; pure |
//! | `trace_command` | the same for the kernel's table, as a command |
#![forbid(unsafe_code)]

pub mod app;
pub mod cleanup;
pub mod config;
pub mod conntrack;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod health;
pub mod keeper;
pub mod kube_proxy;
pub mod listing;
pub mod log;
pub mod loopback;
pub mod model;
pub mod problem;
pub mod program;
pub mod ruleset;
pub mod services;
pub mod source;
pub mod topology;
pub mod trace;
pub mod trace_command;
mod tree;
