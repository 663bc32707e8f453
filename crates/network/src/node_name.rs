//! The name of a node.
//!
//! Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A node's name: 1 to 253 bytes of letters, digits, `.`, `-` and `_`, not starting with `.`, so that it is always a file name too
/// (Kubernetes' node names, RFC 1123 subdomains, are all of them). A clone is the same text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no node name: it must have 1 to 253 letters, digits, '.', '-' or '_' and not start with '.'")]
pub struct NodeNameError {
    name: String,
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if (1..=253).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good) {
            Ok(Self(name.into()))
        } else {
            Err(NodeNameError { name: name.to_owned() })
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
