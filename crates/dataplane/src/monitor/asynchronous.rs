//! A [`Monitor`] that a task can wait for.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Monitor;
use crate::error::KernelError;
use crate::netlink_socket::SocketError;

/// A monitor with its sockets registered in a tokio runtime.
#[derive(Debug)]
pub struct AsyncMonitor {
    monitor: Monitor,
    sockets: [AsyncFd<OwnedFd>; 2],
}

impl AsyncMonitor {
    /// Opens a monitor in the calling thread's network namespace, within a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets, or the runtime cannot wait for them.
    pub fn open() -> Result<Self, KernelError> {
        let monitor = Monitor::open()?;
        let fault = |source| SocketError { action: "wait for changes", source };
        let [route, nft] =
            monitor.sockets().map(|socket| socket.try_clone_to_owned().and_then(register).map_err(fault));
        Ok(Self { sockets: [route?, nft?], monitor })
    }

    /// Waits until notifications may wait that [`Monitor::receive`] has not read.
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
}

impl Deref for AsyncMonitor {
    type Target = Monitor;

    fn deref(&self) -> &Monitor {
        &self.monitor
    }
}

impl DerefMut for AsyncMonitor {
    fn deref_mut(&mut self) -> &mut Monitor {
        &mut self.monitor
    }
}

#[expect(unsafe_code, reason = "the runtime cannot know how long a descriptor stays open")]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it stays open and the same until the `AsyncFd` that owns it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
