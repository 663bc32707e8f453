//! The kernel edge: the only crate that talks to the kernel. It knows nothing of Kubernetes, peers or Services.
//!
//! Values come in and go out as those of [`types`], [`link`], [`address`], [`route`] and [`neighbour`]. [`netlink`]
//! carries them. Every call blocks until the kernel has answered.

pub mod address;
pub mod attribute;
pub mod conntrack;
pub mod error;
mod exchange;
pub mod fake;
pub mod ipset;
pub mod ipvs;
pub mod kernel;
pub mod link;
pub mod monitor;
pub mod neighbour;
pub mod netlink;
pub mod netlink_message;
mod netlink_socket;
pub mod netns;
pub mod nft;
pub mod offload;
pub mod op;
pub mod probe;
pub mod process;
pub mod route;
pub mod rule;
pub mod sysctl;
pub mod types;
pub mod xtables;
