//! The names of the annotations: flannel's, and netd's beside them, behind a prefix that a user may choose.
//!
//! Pure.

use dataplane::types::Family;

use crate::config::store::AnnotationPrefix;

/// Whether the node takes part.
pub(super) const MANAGED: &str = "kube-subnet-manager";
/// The backend.
pub(super) const BACKEND: &str = "backend-type";
/// The encapsulations that the node receives.
pub(super) const RECEIVES: &str = "netd-receives";
/// The encapsulations that the node sends.
pub(super) const SENDS: &str = "netd-sends";

/// The names for IPv4 and for IPv6.
pub(super) type FamilyNames = (&'static str, &'static str);
/// The backend's data for pods of a family.
pub(super) const DATA: FamilyNames = ("backend-data", "backend-v6-data");
/// The public address of a family, as peers see it.
pub(super) const PUBLIC: FamilyNames = ("public-ip", "public-ipv6");
/// The address that the Node's owner wants peers to see.
pub(super) const OVERWRITE: FamilyNames = ("public-ip-overwrite", "public-ipv6-overwrite");
/// The public address that the Node's owner sets in place of the flag.
pub(super) const NODE_PUBLIC: FamilyNames = ("node-public-ip", "node-public-ipv6");

impl AnnotationPrefix {
    /// The annotation of this name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{self}{name}")
    }

    /// The annotation of a family.
    pub(super) fn family_key(&self, names: FamilyNames, family: Family) -> String {
        self.key(if family == Family::V4 { names.0 } else { names.1 })
    }

    /// All annotations that netd writes.
    pub(super) fn written(&self) -> impl Iterator<Item = String> {
        let names = [MANAGED, BACKEND, DATA.0, DATA.1, PUBLIC.0, PUBLIC.1, RECEIVES, SENDS];
        names.into_iter().map(|name| self.key(name))
    }
}
