//! How the API server is used.
//!
//! Pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::FlagError;
use crate::config::flags::Flags;
use crate::identity;

/// Where flannel's manifest mounts the network configuration.
const NET_CONF: &str = "/etc/kube-flannel/net-conf.json";

/// The store in the API server.
#[derive(Debug, Clone)]
pub struct KubeConfig {
    /// The API server's URL, if configured.
    pub url: Option<String>,
    /// The kubeconfig, if configured.
    pub kubeconfig: Option<PathBuf>,
    /// What the names of annotations begin with.
    pub annotation_prefix: AnnotationPrefix,
    /// True if netd sets the node's condition `NetworkUnavailable`.
    pub sets_condition: bool,
    /// Where the network configuration is.
    pub net_conf: NetConfSource,
    /// The file with the state that was last read.
    pub cache_file: PathBuf,
    /// The namespace and the name of the pod that netd runs in.
    pub pod: Option<(String, String)>,
}

/// Where the network configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetConfSource {
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

impl KubeConfig {
    /// Checks the flags and fills in the defaults.
    pub(super) fn new(flags: &Flags) -> Result<Self, FlagError> {
        let kube = &flags.kube;
        let wrong =
            |flag, value: &str, problem: String| Err(FlagError::Value { flag, value: value.to_owned(), problem });
        let annotation_prefix = match kube.kube_annotation_prefix.parse() {
            Ok(prefix) => prefix,
            Err(PrefixError(problem)) => {
                return wrong("--kube-annotation-prefix", &kube.kube_annotation_prefix, problem.to_owned());
            }
        };
        let is_url = |url: &str| {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty())
        };
        if let Some(url) = kube.kube_api_url.as_deref().filter(|url| !is_url(url)) {
            return wrong("--kube-api-url", url, "it must be like https://10.0.0.1:6443".to_owned());
        }
        let net_conf = match (&kube.net_conf_configmap, &flags.net_config_path) {
            (None, path) => NetConfSource::File(path.clone().unwrap_or_else(|| NET_CONF.into())),
            (Some(text), None) => {
                let Some(map) = config_map(text) else {
                    let problem = "it must be NAMESPACE/NAME, like kube-flannel/kube-flannel-cfg";
                    return wrong("--net-conf-configmap", text, problem.to_owned());
                };
                map
            }
            (Some(text), Some(path)) => {
                let problem = format!("--net-config-path names {} too: leave one of them out", path.display());
                return wrong("--net-conf-configmap", text, problem);
            }
        };
        Ok(Self {
            url: kube.kube_api_url.clone(),
            kubeconfig: kube.kubeconfig_file.clone(),
            annotation_prefix,
            sets_condition: kube.set_node_network_unavailable,
            net_conf,
            cache_file: kube.state_dir.join(format!("{}.known.json", identity::mark(&flags.subnet_file))),
            pod: kube.pod_namespace.clone().zip(kube.pod_name.clone()),
        })
    }
}

fn config_map(text: &str) -> Option<NetConfSource> {
    let is_name = |name: &str| {
        (1..=253).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    let (namespace, name) = text.split_once('/').filter(|(namespace, name)| is_name(namespace) && is_name(name))?;
    Some(NetConfSource::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// What the names of annotations begin with, complete: `DOMAIN/` or `DOMAIN/TEXT-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationPrefix(String);

impl fmt::Display for AnnotationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no prefix of annotations, and what would be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PrefixError(&'static str);

impl FromStr for AnnotationPrefix {
    type Err = PrefixError;

    /// Flannel's rules: a domain in lower case, then one slash at most and a text. The end that is missing is added.
    fn from_str(prefix: &str) -> Result<Self, PrefixError> {
        let (domain, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        if rest.contains('/') {
            return Err(PrefixError("prefix can contain at most single slash"));
        }
        let good =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        let labels: Vec<_> = domain.split('.').collect();
        if labels.len() < 2 || labels.iter().any(|label| label.is_empty() || !good(label)) || !good(rest) {
            return Err(PrefixError(
                "prefix must be in a format: fqdn/[0-9a-z-_]*, in lower case and with a dot before the slash, like flannel.alpha.coreos.com",
            ));
        }
        let dash = if rest.is_empty() || rest.ends_with('-') { "" } else { "-" };
        Ok(Self(format!("{domain}/{rest}{dash}")))
    }
}
