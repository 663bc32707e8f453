//! The flags of flanneld's stores: which one is used, and how it is reached.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::go_style;

/// The store in etcd. Any flag that begins with `--etcd-` chooses it.
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdFlags {
    /// Endpoints of etcd, with commas between; any flag that begins with --etcd- chooses etcd as the store
    /// [default: http://127.0.0.1:4001,http://127.0.0.1:2379].
    #[arg(long, global = true, env = "FLANNELD_ETCD_ENDPOINTS", value_delimiter = ',', value_name = "URL")]
    pub etcd_endpoints: Vec<String>,

    /// Prefix of the keys in etcd [default: /coreos.com/network].
    #[arg(long, global = true, env = "FLANNELD_ETCD_PREFIX", value_name = "KEY")]
    pub etcd_prefix: Option<String>,

    /// Key of the certificate that this node shows to etcd.
    #[arg(long, global = true, env = "FLANNELD_ETCD_KEYFILE", value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,

    /// Certificate that this node shows to etcd, if it asks for one.
    #[arg(long, global = true, env = "FLANNELD_ETCD_CERTFILE", value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,

    /// Certificate authority that etcd's certificate is checked against [default: the host's].
    #[arg(long, global = true, env = "FLANNELD_ETCD_CAFILE", value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,

    /// User of etcd.
    #[arg(long, global = true, env = "FLANNELD_ETCD_USERNAME", value_name = "NAME")]
    pub etcd_username: Option<String>,

    /// The user's password.
    #[arg(long, global = true, env = "FLANNELD_ETCD_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub etcd_password: Option<String>,

    /// Minutes before its end at which the lease in etcd, of a day, is renewed at the latest; it is renewed thrice a day anyway.
    #[arg(long, global = true, env = "FLANNELD_SUBNET_LEASE_RENEW_MARGIN", default_value_t = 60, value_parser = margin, value_name = "MINUTES")]
    pub subnet_lease_renew_margin: u64,
}

impl EtcdFlags {
    /// True if etcd is the store.
    pub fn is_chosen(&self) -> bool {
        let files = [&self.etcd_keyfile, &self.etcd_certfile, &self.etcd_cafile];
        let texts = [&self.etcd_prefix, &self.etcd_username, &self.etcd_password];
        !self.etcd_endpoints.is_empty()
            || files.iter().any(|file| file.is_some())
            || texts.iter().any(|text| text.is_some())
    }
}

/// The store in the API server: the leases are annotations of the Node objects.
#[derive(Debug, Clone, Args)]
pub struct KubeFlags {
    /// Use the API server as the store.
    #[arg(long, global = true, env = "FLANNELD_KUBE_SUBNET_MGR", default_value = "false", value_parser = go_style::boolean,
          action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub kube_subnet_mgr: bool,

    /// URL of the API server, if not that of --kubeconfig-file or of the pod that netd runs in.
    #[arg(long, global = true, env = "FLANNELD_KUBE_API_URL", value_name = "URL")]
    pub kube_api_url: Option<String>,

    /// kubeconfig for the API server [default: the pod's service account].
    #[arg(long, global = true, env = "FLANNELD_KUBECONFIG_FILE", value_name = "FILE")]
    pub kubeconfig_file: Option<PathBuf>,

    /// Prefix of the annotations, with one slash at most.
    #[arg(
        long,
        global = true,
        env = "FLANNELD_KUBE_ANNOTATION_PREFIX",
        default_value = "flannel.alpha.coreos.com",
        value_name = "PREFIX"
    )]
    pub kube_annotation_prefix: String,

    /// Set the node's condition `NetworkUnavailable` to False when the network is ready, so that pods are scheduled there.
    #[arg(long, global = true, env = "FLANNELD_SET_NODE_NETWORK_UNAVAILABLE", default_value = "true", value_parser = go_style::boolean,
          action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub set_node_network_unavailable: bool,

    /// `ConfigMap` whose net-conf.json is the network configuration, followed as it changes [default: the file of --net-config-path].
    #[arg(long, global = true, env = "FLANNELD_NET_CONF_CONFIGMAP", value_name = "NAMESPACE/NAME")]
    pub net_conf_configmap: Option<String>,

    /// Directory for the last known state of the network, to start from while the API server cannot be reached.
    #[arg(long, global = true, env = "FLANNELD_STATE_DIR", default_value = "/var/lib/netd", value_name = "DIR")]
    pub state_dir: PathBuf,

    /// The pod that netd runs in; its node is this node if --node-name is not given.
    #[arg(long, global = true, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// The pod's namespace.
    #[arg(long, global = true, env = "POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<String>,
}

fn margin(text: &str) -> Result<u64, String> {
    let minutes = text.parse().ok().filter(|minutes| (1..1440).contains(minutes));
    minutes.ok_or_else(|| "it must be a whole number of minutes from 1 to 1439: a lease in etcd lasts a day".to_owned())
}
