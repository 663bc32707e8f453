//! The names of the annotations: flannel's, and netd's beside them, behind a prefix that a user may choose.
//!
//! Pure.

use dataplane::types::Family;

use crate::config::store::AnnotationPrefix;

/// What stands behind the prefix, as flannel has it; the last two are netd's.
const NAMES: [&str; 12] = [
    MANAGED,
    TYPE,
    "backend-data",
    "backend-v6-data",
    "public-ip",
    "public-ipv6",
    "public-ip-overwrite",
    "public-ipv6-overwrite",
    "node-public-ip",
    "node-public-ipv6",
    RECEIVES,
    SENDS,
];

const MANAGED: &str = "kube-subnet-manager";
const TYPE: &str = "backend-type";
const RECEIVES: &str = "netd-receives";
const SENDS: &str = "netd-sends";

/// True where an annotation could be one of these, with some prefix.
pub(super) fn could_be(key: &str) -> bool {
    NAMES.iter().any(|name| key.strip_suffix(name).is_some_and(|prefix| prefix.ends_with(['/', '-'])))
}

/// The annotations' names with their prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    prefix: AnnotationPrefix,
}

impl Keys {
    /// The names behind a prefix.
    pub(super) fn new(prefix: AnnotationPrefix) -> Self {
        Self { prefix }
    }

    fn with(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Says that the node takes part.
    pub(super) fn managed(&self) -> String {
        self.with(MANAGED)
    }

    /// The backend.
    pub(super) fn backend(&self) -> String {
        self.with(TYPE)
    }

    /// The tunnel's end for pods of a family.
    pub(super) fn data(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "backend-data" } else { "backend-v6-data" })
    }

    /// Where peers reach the node.
    pub(super) fn public(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "public-ip" } else { "public-ipv6" })
    }

    /// A user's word on where peers reach the node.
    pub(super) fn overwrite(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "public-ip-overwrite" } else { "public-ipv6-overwrite" })
    }

    /// A user's word on the node's own public address, in place of the flag.
    pub(super) fn node_public(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "node-public-ip" } else { "node-public-ipv6" })
    }

    /// What the node receives by.
    pub(super) fn receives(&self) -> String {
        self.with(RECEIVES)
    }

    /// What the node sends by.
    pub(super) fn sends(&self) -> String {
        self.with(SENDS)
    }

    /// All that netd writes.
    pub(super) fn written(&self) -> impl Iterator<Item = String> {
        let flannels = ["backend-data", "backend-v6-data", "public-ip", "public-ipv6"];
        [MANAGED, TYPE].into_iter().chain(flannels).chain([RECEIVES, SENDS]).map(|name| self.with(name))
    }
}

#[cfg(test)]
mod tests;
