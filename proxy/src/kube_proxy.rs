//! Whether kube-proxy runs on this node.

/// A sentence about the kube-proxy that runs on this node; `None` where none is found.
pub fn running() -> Option<String> {
    None
}
