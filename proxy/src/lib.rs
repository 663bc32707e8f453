//! Services: what Services and `EndpointSlices` mean for the packets of a node.
//!
//! ```text
//! source (API server, directory) ── events ──▶ services::Services ── topology ──▶ Resolved, one for each service port
//! ```
//!
//! | room | holds |
//! |---|---|
//! | `model` | Services and endpoints as values, and the events about them; pure |
//! | `services` | the state that is built of the events, and conflicts between Services; pure |
//! | `topology` | which endpoints of a service port take part, and why the others do not; pure |
//! | `source` | the API's objects, converted at the border, and the directory they may come from |
//! | `config` | kube-proxy's configuration file and flags |
#![forbid(unsafe_code)]

pub mod config;
pub mod model;
pub mod problem;
pub mod services;
pub mod source;
pub mod topology;
mod tree;
