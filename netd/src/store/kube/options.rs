//! How the API server is used, as the store needs it.

use std::path::PathBuf;

use super::keys::Keys;
use crate::config::KubeConfig;
pub(super) use crate::config::NetConfSource as Source;

/// Nothing says which node this is.
#[derive(Debug, thiserror::Error)]
#[error(
    "env variables POD_NAME and POD_NAMESPACE must be set where neither NODE_NAME nor --node-name is: give the container NODE_NAME from the field spec.nodeName"
)]
pub(super) struct NoNode;

/// How the API server is used.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Where it is, if the user says so.
    pub(super) url: Option<String>,
    /// The file that says how it is reached.
    pub(super) kubeconfig: Option<PathBuf>,
    /// The annotations' names.
    pub(super) keys: Keys,
    /// Whether the condition `NetworkUnavailable` is netd's to set.
    pub(super) sets_condition: bool,
    /// Where the network configuration is.
    pub(super) net_conf: Source,
    /// The file of what was last known.
    pub(super) memory: PathBuf,
    /// The namespace and the name of this pod.
    pub(super) pod: Option<(String, String)>,
}

impl From<KubeConfig> for Options {
    fn from(config: KubeConfig) -> Self {
        Self {
            url: config.url,
            kubeconfig: config.kubeconfig,
            keys: Keys::new(config.annotation_prefix),
            sets_condition: config.sets_condition,
            net_conf: config.net_conf,
            memory: config.cache_file,
            pod: config.pod,
        }
    }
}
