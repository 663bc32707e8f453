//! kube-proxy's flags, as they are: those without a meaning here are accepted and logged.
//!
//! Pure.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser};

use super::GoDuration;
use super::file::FileConfig;

/// A Service proxy that takes kube-proxy's flags and its configuration file.
#[derive(Debug, Clone, Default, PartialEq, Parser)]
#[command(name = "netd-proxy", version, disable_version_flag = true)]
#[command(after_help = "`netd-proxy services` prints what is programmed, and why endpoints are left out.\n\
    `netd-proxy trace SOURCE DESTINATION` says what becomes of a packet in the kernel's table.")]
pub struct Flags {
    /// A file with a `KubeProxyConfiguration`. Most other flags are ignored then.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A directory of Kubernetes YAML or JSON with Services and `EndpointSlices`, in place of the API server.
    #[arg(long, value_name = "DIR")]
    pub services_dir: Option<PathBuf>,
    /// Remove everything that the proxy has made from this node, and exit.
    #[arg(long, value_name = "BOOL")]
    pub cleanup: bool,
    /// Set the sysctls that need privileges, and exit.
    #[arg(long, value_name = "BOOL")]
    pub init_only: bool,
    /// This node's name, in place of the host's.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// How much is logged.
    #[arg(short, long, value_name = "LEVEL")]
    pub v: Option<u32>,
    /// The URL of the API server, in place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// The flags that a file makes void.
    #[command(flatten)]
    pub fields: FieldFlags,
    /// The flags that have no meaning here.
    #[command(flatten)]
    pub ignored: IgnoredFlags,
}

/// Flags that are fields of the file.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct FieldFlags {
    /// The kubeconfig; without one the Pod's own account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// Takes the place of the node's primary address.
    #[arg(long, value_name = "ADDRESS")]
    pub bind_address: Option<String>,
    /// Where the health of the proxy is asked; empty for nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub healthz_bind_address: Option<String>,
    /// Where metrics are; empty for nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_bind_address: Option<String>,
    /// Exit where one of these cannot be bound.
    #[arg(long, value_name = "BOOL")]
    pub bind_address_hard_fail: bool,
    /// Always nftables; another mode is logged, and nftables is used.
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    /// Masquerade all packets to cluster IPs.
    #[arg(long, value_name = "BOOL")]
    pub masquerade_all: bool,
    /// How packets of this node's pods are recognised: `ClusterCIDR`, `NodeCIDR`, `BridgeInterface` or `InterfaceNamePrefix`.
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    /// The pods' bridge.
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// The beginning of the names of the pods' interfaces.
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// The pods' ranges in the cluster, one for each family.
    #[arg(long, value_name = "RANGES")]
    pub cluster_cidr: Option<String>,
    /// On which addresses node ports are: `primary` (the default), `localhost` (TCP alone), `all`, ranges, or several of these.
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// The longest time between two attempts after a failure.
    #[arg(long, value_name = "DURATION")]
    pub iptables_sync_period: Option<GoDuration>,
    /// The shortest time between two changes of the kernel.
    #[arg(long, value_name = "DURATION")]
    pub iptables_min_sync_period: Option<GoDuration>,
    /// The process's `oom_score_adj`.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i64>,
    /// Entries of connection tracking for each processor; 0 leaves the limit.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub conntrack_max_per_core: Option<i64>,
    /// Entries of connection tracking at least.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub conntrack_min: Option<i64>,
    /// How long an idle TCP connection is tracked; 0 leaves the value.
    #[arg(long, value_name = "DURATION")]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,
    /// How long a TCP connection in `CLOSE_WAIT` is tracked; 0 leaves the value.
    #[arg(long, value_name = "DURATION")]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Do not take TCP packets outside of the window for invalid.
    #[arg(long, value_name = "BOOL")]
    pub conntrack_tcp_be_liberal: bool,
    /// How long a UDP flow with packets in one direction is tracked; 0 leaves the value.
    #[arg(long, value_name = "DURATION")]
    pub conntrack_udp_timeout: Option<GoDuration>,
    /// How long a UDP flow with packets in both directions is tracked; 0 leaves the value.
    #[arg(long, value_name = "DURATION")]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,
}

/// The names of kube-proxy's flags without a meaning here; the first ones take no value.
const IGNORED: [&str; 27] = [
    "profiling",
    "iptables-localhost-nodeports",
    "ipvs-strict-arp",
    "log-text-split-stream",
    "log-json-split-stream",
    "write-config-to",
    "feature-gates",
    "vmodule",
    "logging-format",
    "log-flush-frequency",
    "log-text-info-buffer-size",
    "log-json-info-buffer-size",
    "kube-api-content-type",
    "kube-api-burst",
    "kube-api-qps",
    "config-sync-period",
    "show-hidden-metrics-for-version",
    "healthz-port",
    "metrics-port",
    "iptables-masquerade-bit",
    "ipvs-sync-period",
    "ipvs-min-sync-period",
    "ipvs-scheduler",
    "ipvs-exclude-cidrs",
    "ipvs-tcp-timeout",
    "ipvs-tcpfin-timeout",
    "ipvs-udp-timeout",
];
/// How many of them take no value.
const IGNORED_SWITCHES: usize = 5;

/// The flags of [`IGNORED`] that are given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IgnoredFlags(pub Vec<&'static str>);

impl FromArgMatches for IgnoredFlags {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &&str| matches.contains_id(name);
        Ok(Self(IGNORED.into_iter().filter(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for IgnoredFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arg = |(place, name): (usize, &'static str)| {
            let value = if place < IGNORED_SWITCHES { "BOOL" } else { "VALUE" };
            clap::Arg::new(name).long(name).value_name(value).hide(true).allow_hyphen_values(true)
        };
        command.args(IGNORED.into_iter().enumerate().map(arg))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl Flags {
    /// Reads the arguments, the program's name first. The error is clap's: help, or a sentence that names the flag.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = Self::command().mut_args(|arg| {
            if arg.get_value_names().is_none_or(|names| names != ["BOOL"]) {
                return arg;
            }
            // Go's syntax: `--flag` and `--flag=BOOL`.
            let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true");
            let arg = arg.value_parser(boolean);
            if IGNORED.contains(&arg.get_id().as_str()) {
                arg
            } else {
                arg.default_value("false").hide_default_value(true)
            }
        });
        Self::from_arg_matches(&command.try_get_matches_from(args.into_iter().map(with_dashes))?)
    }

    /// The fields that the flags set.
    pub(super) fn fields(&self) -> FileConfig {
        let (flags, mut fields) = (self.fields.clone(), FileConfig::default());
        fields.client_connection.kubeconfig = flags.kubeconfig.unwrap_or_default();
        fields.bind_address = flags.bind_address.unwrap_or_default();
        fields.healthz_bind_address = flags.healthz_bind_address.unwrap_or_default();
        fields.metrics_bind_address = flags.metrics_bind_address.unwrap_or_default();
        fields.bind_address_hard_fail = flags.bind_address_hard_fail;
        fields.mode = flags.proxy_mode.unwrap_or_default();
        (fields.iptables.masquerade_all, fields.nftables.masquerade_all) = (flags.masquerade_all, flags.masquerade_all);
        fields.detect_local_mode = flags.detect_local_mode.unwrap_or_default();
        fields.detect_local.bridge_interface = flags.pod_bridge_interface.unwrap_or_default();
        fields.detect_local.interface_name_prefix = flags.pod_interface_name_prefix.unwrap_or_default();
        fields.cluster_cidr = flags.cluster_cidr.unwrap_or_default();
        fields.node_port_addresses = flags.nodeport_addresses;
        fields.nftables.sync_period = flags.iptables_sync_period.unwrap_or_default();
        fields.nftables.min_sync_period = flags.iptables_min_sync_period.unwrap_or_default();
        fields.oom_score_adj = flags.oom_score_adj;
        fields.conntrack.max_per_core = flags.conntrack_max_per_core;
        fields.conntrack.min = flags.conntrack_min;
        fields.conntrack.tcp_established_timeout = flags.conntrack_tcp_timeout_established;
        fields.conntrack.tcp_close_wait_timeout = flags.conntrack_tcp_timeout_close_wait;
        fields.conntrack.tcp_be_liberal = flags.conntrack_tcp_be_liberal;
        fields.conntrack.udp_timeout = flags.conntrack_udp_timeout.unwrap_or_default();
        fields.conntrack.udp_stream_timeout = flags.conntrack_udp_timeout_stream.unwrap_or_default();
        fields
    }

    /// Tells which flags are ignored.
    pub(super) fn warn(&self, has_file: bool, warnings: &mut Vec<String>) {
        if has_file && self.fields != FieldFlags::default() {
            warnings.push(
                "flags beside --config are ignored, but for --hostname-override, --master and -v: set the file's fields".into(),
            );
        }
        if !self.ignored.0.is_empty() {
            let names: Vec<_> = self.ignored.0.iter().map(|name| format!("--{name}")).collect();
            warnings.push(format!("flags that do not apply here are ignored: {}", names.join(", ")));
        }
    }
}

/// Go's booleans (`strconv.ParseBool`).
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// Kubernetes takes `--cluster_cidr` for `--cluster-cidr`.
fn with_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let name = name.replace('_', "-");
            value.map_or(name.clone(), |value| format!("{name}={value}")).into()
        }
        _ => arg,
    }
}
