//! The kernel edge: the only crate that speaks to the kernel. Knows nothing of Kubernetes, peers or Services.

pub mod attribute;
pub mod netns;
pub mod nft;
pub mod words;
