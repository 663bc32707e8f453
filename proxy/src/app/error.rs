//! Why the proxy cannot work.

use std::io;

use dataplane::error::KernelError;
use dataplane::nft;

use crate::health::ListenError;

/// Why the proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No socket to the kernel.
    #[error("cannot speak to the kernel: netd-proxy needs the capability NET_ADMIN in the node's network namespace")]
    Kernel(#[from] KernelError),
    /// No socket for nftables.
    #[error("cannot speak to nftables: netd-proxy needs the capability NET_ADMIN and a kernel with nf_tables")]
    Nftables(#[from] nft::Error),
    /// Another proxy has the same tables.
    #[error("another netd-proxy, or a netd with --proxy, runs in this network namespace: stop it first")]
    Another(#[source] io::Error),
    /// No thread for node ports on loopback.
    #[error("cannot start the thread for node ports on loopback")]
    Loopback(#[source] io::Error),
    /// A listener cannot be opened, and `bindAddressHardFail` says that this is an error.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
