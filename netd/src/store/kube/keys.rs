//! The names of the annotations: flannel's, and netd's beside them, behind a prefix that a user may choose.
//!
//! Pure.

use dataplane::types::Family;

use crate::config::store::AnnotationPrefix;

const MANAGED: &str = "kube-subnet-manager";
const TYPE: &str = "backend-type";
const RECEIVES: &str = "netd-receives";
const SENDS: &str = "netd-sends";

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

    /// Whether the node takes part.
    pub(super) fn managed(&self) -> String {
        self.with(MANAGED)
    }

    /// The backend.
    pub(super) fn backend(&self) -> String {
        self.with(TYPE)
    }

    /// The backend's data for pods of a family.
    pub(super) fn data(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "backend-data" } else { "backend-v6-data" })
    }

    /// The public address of a family, as peers see it.
    pub(super) fn public(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "public-ip" } else { "public-ipv6" })
    }

    /// The address that the Node's owner wants peers to see.
    pub(super) fn overwrite(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "public-ip-overwrite" } else { "public-ipv6-overwrite" })
    }

    /// The public address that the Node's owner sets in place of the flag.
    pub(super) fn node_public(&self, family: Family) -> String {
        self.with(if family == Family::V4 { "node-public-ip" } else { "node-public-ipv6" })
    }

    /// The encapsulations that the node receives.
    pub(super) fn receives(&self) -> String {
        self.with(RECEIVES)
    }

    /// The encapsulations that the node sends.
    pub(super) fn sends(&self) -> String {
        self.with(SENDS)
    }

    /// All annotations that netd writes.
    pub(super) fn written(&self) -> impl Iterator<Item = String> {
        let flannels = ["backend-data", "backend-v6-data", "public-ip", "public-ipv6"];
        [MANAGED, TYPE].into_iter().chain(flannels).chain([RECEIVES, SENDS]).map(|name| self.with(name))
    }
}
