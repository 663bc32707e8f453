//! Which plugin the binary is: it can be installed under several names. Today it is one plugin, which does everything that
//! a pod needs inside one entry of the configuration list. Pure.

use crate::cni_error::{CniError, Code};

/// The names of the binary itself; under these, `type` says what it is.
const OWN_NAMES: [&str; 2] = ["netd", "netd-cni"];

/// Checks the name that the binary was called by, and where that is its own, the configuration's `type`. The name comes
/// first, since a delegate is called with the configuration of its caller.
///
/// # Errors
/// Where another plugin was asked for.
pub fn check(argv0: &str, kind: Option<&str>) -> Result<(), CniError> {
    let called = argv0.rsplit('/').next().unwrap_or_default();
    let kind = kind.unwrap_or_default();
    if OWN_NAMES.contains(&called) && (kind.is_empty() || OWN_NAMES.contains(&kind)) {
        return Ok(());
    }
    let message = format!(
        "type is {kind:?}, and the program was called as {called:?}: it is the plugin \"netd\" and no other; set 'type' \
         to \"netd\" and install it under that name"
    );
    Err(CniError::new(Code::UnsupportedField, message))
}

#[cfg(test)]
mod tests;
