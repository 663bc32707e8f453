//! Which plugin the binary is: it can be installed under several names. Pure.
//!
//! Each personality says which configuration it reads and what its verbs do. Today there is one.

use crate::cni_error::{CniError, Code};

/// A plugin that the binary can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// Everything that a pod needs inside one entry of the configuration list.
    Netd,
}

/// The names of the binary itself; under these, `type` says what it is.
const OWN_NAMES: [&str; 2] = ["netd", "netd-cni"];

impl Personality {
    /// Decides by the name that the binary was called by, and where that is its own, by the configuration's `type`. The
    /// name comes first, since a delegate is called with the configuration of its caller.
    ///
    /// # Errors
    /// Where neither names a personality.
    pub fn of(argv0: &str, kind: Option<&str>) -> Result<Self, CniError> {
        let called = argv0.rsplit('/').next().unwrap_or_default();
        let name =
            if OWN_NAMES.contains(&called) { kind.filter(|kind| !kind.is_empty()).unwrap_or(called) } else { called };
        if OWN_NAMES.contains(&name) {
            return Ok(Personality::Netd);
        }
        let message = format!(
            "type is {:?}, and the program was called as {called:?}: it is the plugin \"netd\" and no other; set 'type' \
             to \"netd\" and install it under that name",
            kind.unwrap_or_default()
        );
        Err(CniError::new(Code::UnsupportedField, message))
    }
}

#[cfg(test)]
mod tests;
