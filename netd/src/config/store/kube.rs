//! How the API server is used.
//!
//! Pure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use apiserver::Remedies;
use clap::Args;

use super::StoreFlagError;
use crate::identity;

/// Where flannel's manifest mounts the network configuration.
const NET_CONF: &str = "/etc/kube-flannel/net-conf.json";

/// What a person types so that netd reaches the API server.
pub const REMEDIES: Remedies = Remedies {
    config: "give --kubeconfig-file, or run netd in a pod with a ServiceAccount",
    unreachable: "see that it is up, and that --kube-api-url, the kubeconfig or KUBERNETES_SERVICE_HOST has its address",
    forbidden: "netd's ServiceAccount lacks this right: apply the ClusterRole, the Role and their bindings of manifests/netd.yml",
    other_server: "another server may answer at this address: check --kube-api-url, and what is between the API server and this node",
};

/// The flags of the store in the API server: the leases are annotations of the Node objects.
#[derive(Debug, Clone, Args)]
pub struct KubeFlags {
    /// Use the API server as the store.
    #[arg(long, default_value_t = false, value_name = "BOOL")]
    pub kube_subnet_mgr: bool,

    /// URL of the API server, if not that of --kubeconfig-file or of the pod that netd runs in.
    #[arg(long, value_name = "URL")]
    pub kube_api_url: Option<String>,

    /// kubeconfig for the API server [default: the pod's service account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig_file: Option<PathBuf>,

    /// Prefix of the annotations, with one slash at most.
    #[arg(long, default_value = "flannel.alpha.coreos.com", value_name = "PREFIX")]
    pub kube_annotation_prefix: String,

    /// Set the node's condition `NetworkUnavailable` to False when the network is ready, so that pods are scheduled there.
    #[arg(long, default_value_t = true, value_name = "BOOL")]
    pub set_node_network_unavailable: bool,

    /// `ConfigMap` whose net-conf.json is the network configuration, followed as it changes [default: the file of --net-config-path].
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub net_conf_configmap: Option<String>,

    /// Directory for the last known state of the network, to start from while the API server cannot be reached.
    #[arg(long, default_value = "/var/lib/netd", value_name = "DIR")]
    pub state_dir: PathBuf,

    /// The pod that netd runs in; its node is this node if --node-name is not given.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// The pod's namespace.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<String>,
}

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
    /// Checks the flags and fills in the defaults. `net_conf` is the file of `--net-config-path`.
    pub(super) fn new(flags: &KubeFlags, net_conf: Option<&Path>, subnet_file: &Path) -> Result<Self, StoreFlagError> {
        let prefix = &flags.kube_annotation_prefix;
        let annotation_prefix =
            prefix.parse().map_err(|problem| StoreFlagError::value("--kube-annotation-prefix", prefix, problem))?;
        let is_url = |url: &str| {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty())
        };
        if let Some(url) = flags.kube_api_url.as_deref().filter(|url| !is_url(url)) {
            return Err(StoreFlagError::value("--kube-api-url", url, "it must be like https://10.0.0.1:6443"));
        }
        let net_conf = match (&flags.net_conf_configmap, net_conf) {
            (None, path) => NetConfSource::File(path.unwrap_or(Path::new(NET_CONF)).to_owned()),
            (Some(text), path) => config_map(text, path)
                .map_err(|problem| StoreFlagError::value("--net-conf-configmap", text, &problem))?,
        };
        Ok(Self {
            url: flags.kube_api_url.clone(),
            kubeconfig: flags.kubeconfig_file.clone(),
            annotation_prefix,
            sets_condition: flags.set_node_network_unavailable,
            net_conf,
            cache_file: flags.state_dir.join(format!("{}.known.json", identity::mark(subnet_file))),
            pod: flags.pod_namespace.clone().zip(flags.pod_name.clone()),
        })
    }
}

fn config_map(text: &str, path: Option<&Path>) -> Result<NetConfSource, String> {
    if let Some(path) = path {
        return Err(format!("--net-config-path names {} too: leave one of them out", path.display()));
    }
    let is_name = |name: &str| {
        (1..=253).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(NetConfSource::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("it must be NAMESPACE/NAME, like kube-flannel/kube-flannel-cfg".to_owned()),
    }
}

/// What the names of annotations begin with, complete: `DOMAIN/` or `DOMAIN/TEXT-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationPrefix(String);

impl fmt::Display for AnnotationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AnnotationPrefix {
    /// What would be a prefix.
    type Err = &'static str;

    /// Flannel's rules: a domain in lower case, then one slash at most and a text. The end that is missing is added.
    fn from_str(prefix: &str) -> Result<Self, &'static str> {
        let (domain, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        if rest.contains('/') {
            return Err("prefix can contain at most single slash");
        }
        let good =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        let labels: Vec<_> = domain.split('.').collect();
        if labels.len() < 2 || labels.iter().any(|label| label.is_empty() || !good(label)) || !good(rest) {
            return Err(
                "prefix must be in a format: fqdn/[0-9a-z-_]*, in lower case and with a dot before the slash, like flannel.alpha.coreos.com",
            );
        }
        let dash = if rest.is_empty() || rest.ends_with('-') { "" } else { "-" };
        Ok(Self(format!("{domain}/{rest}{dash}")))
    }
}
