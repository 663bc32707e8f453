//! The Kubernetes API server, for any program of this repository: connection and credentials, typed watches of any kind of object,
//! and Events.
//!
//! Lists, watches and requests are kube-rs's. This crate adds what kube-rs leaves to its user: time limits, credentials that are read
//! again, errors that say what to do, `Retry-After`, and an etcd that is restored from a backup. The crate decides nothing: what an
//! object means is the caller's question.
#![forbid(unsafe_code)]

pub mod connection;
mod error;
pub mod event_recorder;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod metadata;
mod request_metrics;
pub mod watch;

pub use self::connection::{Address, ApiServer};
pub use self::error::{ApiError, Remedies, chain};
pub use self::request_metrics::RequestMetrics;
pub use self::watch::{Selection, Watch, WatchEvent, watch};
