//! What `manifests/netd.yml` lets netd do, without the pods that it is for: what is shipped is what is tried.

use std::path::{Path, PathBuf};

use super::ApiServer;
use crate::failure::{Context, Outcome};

/// Who netd is to the API server.
pub const ACCOUNT: &str = "system:serviceaccount:netd:netd";

/// What is netd itself, and how it is configured.
const NOT_RIGHTS: [&str; 2] = ["DaemonSet", "ConfigMap"];

impl ApiServer {
    /// Applies the manifest's namespace, account, roles and bindings, and gives that account's kubeconfig.
    ///
    /// # Errors
    /// Where the manifest cannot be read, or the API server refuses it.
    pub fn admit_netd(&self) -> Outcome<PathBuf> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/netd.yml");
        let text = std::fs::read_to_string(&manifest).context("read manifests/netd.yml")?;
        let is_right = |object: &&str| !NOT_RIGHTS.iter().any(|kind| object.contains(&format!("\nkind: {kind}\n")));
        let rights: Vec<&str> = text.split("\n---\n").filter(is_right).collect();
        self.apply(&rights.join("\n---\n"))?;
        self.kubeconfig("netd", &self.account_token("netd", "netd")?)
    }
}
