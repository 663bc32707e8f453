//! `/proc/sys` of the calling thread's network namespace.
//!
//! Container runtimes mount it read-only where a container is not privileged. Then a writable mount of the node's `/proc/sys/net` at
//! [`WRITABLE`]`/net` takes its place for writing; runtimes refuse such a mount inside of `/proc`. The kernel shows the network
//! namespace of the reading thread, so both paths are the same keys.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use crate::error::KernelError;

/// Where a container may find what it can write.
const WRITABLE: &str = "/host/proc/sys";

/// The path of a key.
///
/// Keys are given with slashes, since a link's name may hold dots, as `sysctl(8)` also takes them: `net/ipv4/conf/eth0.5/rp_filter`.
fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}

fn fault(action: &'static str, key: &str) -> impl Fn(Error) -> KernelError {
    move |source| KernelError::File { action, path: path(key).display().to_string(), source }
}

/// Reads a key, without its final newline.
pub fn read(key: &str) -> Result<String, KernelError> {
    let text = std::fs::read_to_string(path(key)).map_err(fault("read", key))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a key.
pub fn write(key: &str, value: &str) -> Result<(), KernelError> {
    let mut written = std::fs::write(path(key), value);
    if let Err(error) = &written
        && error.kind() == ErrorKind::ReadOnlyFilesystem
    {
        let hint = format!("{error}; in a container, mount the node's /proc/sys/net at {WRITABLE}/net");
        written = std::fs::write(PathBuf::from(WRITABLE).join(key), value).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(ErrorKind::ReadOnlyFilesystem, hint),
            _ => error,
        });
    }
    written.map_err(fault("write", key))
}

/// Writes a key that has another value; true where it did.
pub fn ensure(key: &str, value: &str) -> Result<bool, KernelError> {
    if read(key)? == value {
        return Ok(false);
    }
    write(key, value)?;
    Ok(true)
}
