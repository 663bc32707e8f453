//! The kernel's notifications, for a task that waits for other things too.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::netlink::{KernelError, SocketError};
use crate::watch::{Event, Watch};

/// Hears what changes in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Notifications {
    watch: Watch,
    sockets: [AsyncFd<OwnedFd>; 2],
}

impl Notifications {
    /// Opens it in the calling thread's network namespace, within a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to.
    pub fn open() -> Result<Self, KernelError> {
        let watch = Watch::open()?;
        let fault = |source: io::Error| SocketError { action: "wait for changes", source };
        let [route, nft] = watch.sockets().map(|socket| {
            let socket = socket.try_clone_to_owned().map_err(fault)?;
            register(socket).map_err(fault)
        });
        Ok(Self { sockets: [route?, nft?], watch })
    }

    /// Waits until something may have changed since [`Notifications::pending`] last gave nothing.
    pub async fn changed(&self) {
        let [route, nft] = &self.sockets;
        let ready = tokio::select! {
            ready = route.readable() => ready,
            ready = nft.readable() => ready,
        };
        match ready {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        }
    }

    /// The changes that wait, not many more than `limit`; none where all were read.
    ///
    /// # Errors
    /// Where a socket fails for good.
    pub fn pending(&mut self, limit: usize) -> Result<Vec<Event>, KernelError> {
        self.watch.pending(limit)
    }
}

#[expect(unsafe_code, reason = "the runtime cannot know how long a descriptor stays open")]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it stays open and the same until the `AsyncFd` that owns it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
