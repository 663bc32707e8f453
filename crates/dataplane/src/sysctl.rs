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

/// Reads a key, without its final newline.
pub fn read(key: &str) -> Result<String, KernelError> {
    let path = path(key);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(KernelError::File { action: "read", path: path.display().to_string(), source }),
    }
}

/// Writes a key.
pub fn write(key: &str, value: &str) -> Result<(), KernelError> {
    let path = path(key);
    let failed = |source| KernelError::File { action: "write", path: path.display().to_string(), source };
    match std::fs::write(&path, value) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            let writable = PathBuf::from(WRITABLE).join(key);
            let hint = || format!("{error}; in a container, mount the node's /proc/sys/net at {WRITABLE}/net");
            match std::fs::write(writable, value) {
                Err(absent) if absent.kind() == ErrorKind::NotFound => {
                    Err(failed(Error::new(ErrorKind::ReadOnlyFilesystem, hint())))
                }
                written => written.map_err(failed),
            }
        }
        written => written.map_err(failed),
    }
}

/// Writes a key that has another value; true where it did.
pub fn ensure(key: &str, value: &str) -> Result<bool, KernelError> {
    if read(key)? == value {
        return Ok(false);
    }
    write(key, value)?;
    Ok(true)
}
