//! The kernel edge: the only crate that speaks to the kernel. Knows nothing of Kubernetes, peers or Services.
//!
//! Values come in and go out in the words of [`types`], [`link`], [`address`], [`route`] and [`neighbour`]. [`netlink`]
//! carries them. Everything here blocks, and for no longer than the kernel takes to answer.

pub mod address;
pub mod arena;
pub mod attribute;
pub mod error;
pub mod fake;
#[cfg(feature = "heap")]
pub mod heap;
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
pub mod sysctl;
pub mod types;
pub mod xtables;
