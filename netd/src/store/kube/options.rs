//! How the API server is used, as the store needs it.

use std::path::PathBuf;

use apiserver::Address;

use super::keys::Keys;
use crate::config::KubeConfig;
pub(super) use crate::config::NetConfSource as Source;

/// The node's name is not given.
#[derive(Debug, thiserror::Error)]
#[error(
    "env variables POD_NAME and POD_NAMESPACE must be set where neither NODE_NAME nor --node-name is: give the container NODE_NAME from the field spec.nodeName"
)]
pub(super) struct NoNode;

/// How the API server is used.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Where the API server is.
    pub(super) address: Address,
    /// The annotations' names.
    pub(super) keys: Keys,
    /// Whether netd sets the condition `NetworkUnavailable`.
    pub(super) sets_condition: bool,
    /// Where the network configuration is.
    pub(super) net_conf: Source,
    /// The cache file: the network as last known.
    pub(super) cache_file: PathBuf,
    /// The namespace and the name of this pod.
    pub(super) pod: Option<(String, String)>,
}

impl From<KubeConfig> for Options {
    fn from(config: KubeConfig) -> Self {
        Self {
            address: Address { url: config.url, kubeconfig: config.kubeconfig },
            keys: Keys::new(config.annotation_prefix),
            sets_condition: config.sets_condition,
            net_conf: config.net_conf,
            cache_file: config.cache_file,
            pod: config.pod,
        }
    }
}
