//! kube-proxy's configuration file: `KubeProxyConfiguration` v1alpha1, every field.
//!
//! Pure. A field that is null, empty or zero has its default, as with kube-proxy; kubeadm writes all fields out like that.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Options};

use super::{ConfigError, GoDuration};
use crate::tree::Tree;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Fields that have no meaning here, or whose fields have none.
const NOT_APPLIED: [&str; 20] = [
    "featureGates",
    "clientConnection.acceptContentTypes",
    "clientConnection.contentType",
    "clientConnection.qps",
    "clientConnection.burst",
    "logging.format",
    "logging.flushFrequency",
    "logging.vmodule",
    "logging.options",
    "enableProfiling",
    "showHiddenMetricsForVersion",
    "iptables.masqueradeBit",
    "iptables.localhostNodePorts",
    "nftables.masqueradeBit",
    "ipvs",
    "winkernel",
    "windowsRunAsService",
    "configSyncPeriod",
    "portRange",
    "udpIdleTimeout",
];

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                #[allow(missing_docs, reason = "kube-proxy's documentation is that of the field")]
                $(#[$attribute])*
                #[serde(deserialize_with = "or_default")]
                pub $field: $type,
            )*
        }
    };
}

section! {
    /// The file.
    FileConfig {
        api_version: String,
        kind: String,
        feature_gates: BTreeMap<String, bool>,
        client_connection: ClientConnection,
        logging: Logging,
        hostname_override: Option<String>,
        bind_address: String,
        healthz_bind_address: String,
        metrics_bind_address: String,
        bind_address_hard_fail: bool,
        enable_profiling: bool,
        show_hidden_metrics_for_version: String,
        mode: String,
        iptables: Iptables,
        ipvs: Ipvs,
        nftables: Nftables,
        winkernel: Winkernel,
        detect_local_mode: String,
        detect_local: DetectLocalFields,
        #[serde(rename = "clusterCIDR")]
        cluster_cidr: String,
        node_port_addresses: Vec<String>,
        oom_score_adj: Option<i64>,
        conntrack: ConntrackFields,
        config_sync_period: GoDuration,
        port_range: String,
        udp_idle_timeout: GoDuration,
        windows_run_as_service: bool,
    }
}

section! {
    /// How the API server is reached.
    ClientConnection {
        kubeconfig: String,
        accept_content_types: String,
        content_type: String,
        qps: f64,
        burst: i64,
    }
}

section! {
    /// Logging.
    Logging {
        format: String,
        flush_frequency: Value,
        verbosity: Option<u32>,
        vmodule: Value,
        options: Value,
    }
}

section! {
    /// Mode iptables.
    Iptables {
        masquerade_bit: Option<i64>,
        masquerade_all: bool,
        localhost_node_ports: Option<bool>,
        sync_period: GoDuration,
        min_sync_period: GoDuration,
    }
}

section! {
    /// Mode ipvs.
    Ipvs {
        scheduler: String,
        #[serde(rename = "excludeCIDRs")]
        exclude_cidrs: Vec<String>,
        #[serde(rename = "strictARP")]
        strict_arp: bool,
        tcp_timeout: GoDuration,
        tcp_fin_timeout: GoDuration,
        udp_timeout: GoDuration,
        sync_period: GoDuration,
        min_sync_period: GoDuration,
    }
}

section! {
    /// Mode nftables.
    Nftables {
        masquerade_bit: Option<i64>,
        masquerade_all: bool,
        sync_period: GoDuration,
        min_sync_period: GoDuration,
    }
}

section! {
    /// Windows.
    Winkernel {
        network_name: String,
        source_vip: String,
        #[serde(rename = "enableDSR")]
        enable_dsr: bool,
        root_hns_endpoint_name: String,
        forward_health_check_vip: bool,
    }
}

section! {
    /// How packets of this node's pods are distinguished from others.
    DetectLocalFields {
        bridge_interface: String,
        interface_name_prefix: String,
    }
}

section! {
    /// Connection tracking.
    ConntrackFields {
        max_per_core: Option<i64>,
        min: Option<i64>,
        tcp_established_timeout: Option<GoDuration>,
        tcp_close_wait_timeout: Option<GoDuration>,
        tcp_be_liberal: bool,
        udp_timeout: GoDuration,
        udp_stream_timeout: GoDuration,
    }
}

/// Null is the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads the file strictly, and where that fails without the fields that are unknown or twice, with a warning about them.
pub(super) fn read(file: &str, text: &str, warnings: &mut Vec<String>) -> Result<FileConfig, ConfigError> {
    let syntax = |error: serde_saphyr::Error| ConfigError::Syntax {
        file: file.to_owned(),
        message: error.without_snippet().to_string(),
    };
    let tree: Tree = match serde_saphyr::from_str(text) {
        Ok(tree) => tree,
        Err(error) => {
            let mut options = Options::default();
            options.duplicate_keys = DuplicateKeyPolicy::LastWins;
            let tree = serde_saphyr::from_str_with_options(text, options).map_err(syntax)?;
            warnings.push(format!("{file}: {}: the last one counts", error.without_snippet()));
            tree
        }
    };
    if (tree.text("apiVersion"), tree.text("kind")) != (Some(API_VERSION), Some(KIND)) {
        return Err(ConfigError::Foreign(file.to_owned()));
    }
    let fields: FileConfig = tree.read().map_err(|error| ConfigError::Field {
        field: error.field.clone(),
        file: file.to_owned(),
        line: error.line,
        message: error.to_string(),
    })?;
    let (mut unknown, mut not_applied) = (Vec::new(), Vec::new());
    let known = serde_json::to_value(FileConfig::default()).unwrap_or_default();
    compare(&tree.to_json(), &known, "", &mut unknown, &mut not_applied);
    if !unknown.is_empty() {
        warnings.push(format!("{file}: unknown fields are ignored: {}", unknown.join(", ")));
    }
    if !not_applied.is_empty() {
        warnings.push(format!("{file}: fields that do not apply here are ignored: {}", not_applied.join(", ")));
    }
    Ok(fields)
}

/// Finds the fields that nobody knows, and those with a value that has no meaning here.
fn compare(given: &Value, known: &Value, path: &str, unknown: &mut Vec<String>, not_applied: &mut Vec<String>) {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return };
    for (key, value) in given {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let is_not_applied = NOT_APPLIED.contains(&path.as_str());
        match known.get(key) {
            None => unknown.push(path),
            Some(_) if is_not_applied && is_empty(value) => {}
            Some(_) if is_not_applied => not_applied.push(path),
            Some(known) => compare(value, known, &path, unknown, not_applied),
        }
    }
}

/// True for a value that stands for a field's default.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => ["", "0", "0s"].contains(&text.as_str()),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}
