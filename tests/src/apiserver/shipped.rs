//! What the manifests let netd and netd-proxy do, without the pods that it is for: what is shipped is what is tried.

use std::path::{Path, PathBuf};

use super::ApiServer;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};

/// Who netd is to the API server.
pub const ACCOUNT: &str = "system:serviceaccount:netd:netd";
/// Who netd-proxy is to the API server.
pub const PROXY_ACCOUNT: &str = "system:serviceaccount:kube-system:netd-proxy";

/// What is a program itself, and how it is configured.
const NOT_RIGHTS: [&str; 2] = ["DaemonSet", "ConfigMap"];

impl ApiServer {
    /// Applies the manifest's namespace, account, roles and bindings, and gives that account's kubeconfig.
    ///
    /// # Errors
    /// Where the manifest cannot be read, or the API server refuses it.
    pub fn admit_netd(&self) -> Outcome<PathBuf> {
        self.apply_rights("netd.yml")?;
        self.kubeconfig("netd", &self.account_token("netd", "netd")?)
    }

    /// The same for the account of `netd-proxy.yml`; gives a token of it.
    ///
    /// # Errors
    /// Where the manifest cannot be read, or the API server refuses it.
    pub fn admit_proxy(&self) -> Outcome<String> {
        // The API server makes the namespace itself, soon after it is ready.
        eventually(seconds(60), "there is kube-system", || self.get("/api/v1/namespaces/kube-system").map(drop))?;
        self.apply_rights("netd-proxy.yml")?;
        self.account_token("kube-system", "netd-proxy")
    }

    fn apply_rights(&self, manifest: &str) -> Outcome {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").join(manifest);
        let text = std::fs::read_to_string(&path).context(format!("read {}", path.display()))?;
        let is_right = |object: &&str| !NOT_RIGHTS.iter().any(|kind| object.contains(&format!("\nkind: {kind}\n")));
        let rights: Vec<&str> = text.split("\n---\n").filter(is_right).collect();
        self.apply(&rights.join("\n---\n")).map(drop)
    }

    /// Fails where an account has asked for something that it may not, or for nothing.
    ///
    /// # Errors
    /// With the requests.
    pub fn nothing_was_refused(&self, account: &str) -> Outcome {
        let requests = self.requests()?;
        let own: Vec<_> = requests.iter().filter(|event| event["user"]["username"] == account).collect();
        crate::ensure!(!own.is_empty(), "{account} has asked for nothing");
        let refused: Vec<String> = own
            .iter()
            .filter(|event| event["responseStatus"]["code"] == 403)
            .map(|event| format!("{} {}", event["verb"], event["requestURI"]))
            .collect();
        crate::ensure!(refused.is_empty(), "{account} was refused: {}", refused.join(", "));
        Ok(())
    }
}
