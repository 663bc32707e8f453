//! `/proc/sys` of the calling thread's network namespace.

use std::path::PathBuf;

use crate::netlink::KernelError;

/// Where a key lives.
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
    std::fs::write(&path, value).map_err(|source| KernelError::File {
        action: "write",
        path: path.display().to_string(),
        source,
    })
}

/// Writes a key that has another value; true where it did.
pub fn ensure(key: &str, value: &str) -> Result<bool, KernelError> {
    if read(key)? == value {
        return Ok(false);
    }
    write(key, value)?;
    Ok(true)
}
