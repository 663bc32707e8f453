//! Notifies the service manager, as `sd_notify(3)` describes.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const SOCKET: &str = "NOTIFY_SOCKET";

/// Sends a state such as `READY=1`, where the environment names a socket. A failure is logged.
pub(crate) fn notify(state: &str) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        let socket = socket.display();
        tracing::warn!(
            "cannot send {state} to the service manager at {SOCKET}={socket}, which may restart netd: {error}"
        );
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A full queue must not stop the daemon.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(format!("{state}\n").as_bytes(), &address).map(drop)
}
