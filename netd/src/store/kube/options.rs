//! What the flags say about the API server, as a typed value. No file is read yet.

use std::path::PathBuf;

use super::keys::{Keys, PrefixError};
use crate::config::flags::Flags;
use crate::identity;

/// Where flannel's manifest mounts the network configuration.
const NET_CONF: &str = "/etc/kube-flannel/net-conf.json";

/// Flags that cannot be meant so.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A value that does not fit.
    #[error("{flag} is {value:?}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Nothing says which node this is.
    #[error(
        "env variables POD_NAME and POD_NAMESPACE must be set where neither NODE_NAME nor --node-name is: give the container NODE_NAME from the field spec.nodeName"
    )]
    NoNode,
}

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

/// Where the network configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// In a file.
    File(PathBuf),
    /// In a `ConfigMap`.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Options {
    /// Judges the flags.
    pub(super) fn of(flags: &Flags) -> Result<Self, OptionsError> {
        let kube = &flags.kube;
        let prefix = &kube.kube_annotation_prefix;
        let keys = Keys::new(prefix).map_err(|error: PrefixError| OptionsError::Flag {
            flag: "--kube-annotation-prefix",
            value: prefix.clone(),
            problem: error.to_string(),
        })?;
        if let Some(url) = &kube.kube_api_url
            && !["http://", "https://"]
                .iter()
                .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        {
            return Err(OptionsError::Flag {
                flag: "--kube-api-url",
                value: url.clone(),
                problem: "it must be like https://10.0.0.1:6443".to_owned(),
            });
        }
        let net_conf = match (&kube.net_conf_configmap, &flags.net_config_path) {
            (None, path) => Source::File(path.clone().unwrap_or_else(|| NET_CONF.into())),
            (Some(text), None) => config_map(text)?,
            (Some(text), Some(path)) => {
                return Err(OptionsError::Flag {
                    flag: "--net-conf-configmap",
                    value: text.clone(),
                    problem: format!("--net-config-path names {} too: leave one of them out", path.display()),
                });
            }
        };
        let memory = kube.state_dir.join(format!("{}.known.json", identity::mark(&flags.subnet_file)));
        let pod = kube.pod_namespace.clone().zip(kube.pod_name.clone());
        Ok(Self {
            url: kube.kube_api_url.clone(),
            kubeconfig: kube.kubeconfig_file.clone(),
            keys,
            sets_condition: kube.set_node_network_unavailable,
            net_conf,
            memory,
            pod,
        })
    }
}

fn config_map(text: &str) -> Result<Source, OptionsError> {
    let good = |name: &str| {
        (1..=253).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    match text.split_once('/') {
        Some((namespace, name)) if good(namespace) && good(name) => {
            Ok(Source::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(OptionsError::Flag {
            flag: "--net-conf-configmap",
            value: text.to_owned(),
            problem: "it must be NAMESPACE/NAME, like kube-flannel/kube-flannel-cfg".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
