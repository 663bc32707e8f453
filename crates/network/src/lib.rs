//! The pod network as values: what the nodes say of themselves, what a node's kernel should then hold, and the plan that leads there
//! from what it holds.
//!
//! Pure but for [`observe`] and [`flannel`], which read the kernel through its trait. Neither files nor sockets nor a clock: what depends on them
//! comes in as arguments. Knows no Kubernetes; whose records these are is the stores' business.
#![forbid(unsafe_code)]

pub mod allocation;
pub mod backend;
pub mod caseless;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod flannel;
pub mod hash;
pub mod interface;
pub mod mirror;
pub mod model;
pub mod net_conf;
pub mod observe;
pub mod overlay;
mod part;
pub mod patience;
pub mod plan;
pub mod record;

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
