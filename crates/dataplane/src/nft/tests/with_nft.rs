//! Against `nft` itself.
