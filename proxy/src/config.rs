//! The proxy's configuration: kube-proxy's file (`KubeProxyConfiguration` v1alpha1) and kube-proxy's flags.
//!
//! Pure: [`Config::read`] takes the flags and the file's text. As with kube-proxy, a file makes most flags void.

mod duration;
mod file;
mod flags;
mod validate;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane::types::{Family, IfName, PerFamily, Prefix};

pub use self::duration::GoDuration;
pub use self::file::FileConfig;
pub use self::flags::Flags;

/// What the proxy runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The kubeconfig; without one the Pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's URL, in place of the kubeconfig's.
    pub master: Option<String>,
    /// This node's name, in place of the host's.
    pub hostname_override: Option<String>,
    /// Takes the place of the node's primary address; unspecified for the Node object's.
    pub bind_address: IpAddr,
    /// This node's addresses where no Node object has them; no flag sets them.
    pub node_addresses: PerFamily<IpAddr>,
    /// Where `/healthz` and `/livez` are.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` and `/proxyMode` are.
    pub metrics: Option<SocketAddr>,
    /// Ends the program where one of these cannot be bound, instead of trying again.
    pub bind_address_hard_fail: bool,
    /// Packets to cluster IPs are always masqueraded.
    pub masquerade_all: bool,
    /// How packets of this node's pods are distinguished from others.
    pub detect_local: DetectLocal,
    /// Where node ports are.
    pub node_port_addresses: NodePortAddresses,
    /// The longest time between two attempts after a failure.
    pub sync_period: Duration,
    /// The shortest time between two changes of the kernel.
    pub min_sync_period: Duration,
    /// The kernel's connection tracking.
    pub conntrack: Conntrack,
    /// The process's `oom_score_adj`.
    pub oom_score_adj: i32,
    /// How much is logged: `-v`.
    pub verbosity: u32,
}

/// How packets of this node's pods are distinguished from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the pods' ranges of the cluster. Where a family has none, nothing is known about its packets.
    ClusterCidr(PerFamily<Prefix>),
    /// By the pods' ranges of this node.
    NodeCidr,
    /// By the bridge that they come from.
    BridgeInterface(IfName),
    /// By the beginning of the name of the interface that they come from.
    InterfaceNamePrefix(IfName),
}

/// On which of the node's addresses node ports are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodePortAddresses {
    /// `primary`: those of the Node object.
    pub primary: bool,
    /// `all`: every address of the node but loopback.
    pub all: bool,
    /// `localhost`: loopback, of both families.
    pub localhost: bool,
    /// Those within the ranges. A family without a range has all of its addresses, where no keyword is given.
    pub ranges: Vec<Prefix>,
}

impl NodePortAddresses {
    /// True where node ports of the family are on loopback (KEP-6032): by the keyword, or by a range of loopback addresses. A wider range
    /// and `all` do not ask for them.
    pub fn has_loopback(&self, family: Family) -> bool {
        self.localhost || self.ranges.iter().any(|range| family.loopback().covers(*range))
    }

    /// The families whose node ports are on loopback.
    pub fn loopback(&self) -> BTreeSet<Family> {
        Family::BOTH.into_iter().filter(|family| self.has_loopback(*family)).collect()
    }
}

/// The kernel's connection tracking; `None` leaves a value as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries for each processor.
    pub max_per_core: Option<u32>,
    /// Entries at least, where `max_per_core` is set.
    pub min: u32,
    /// `nf_conntrack_tcp_timeout_established`.
    pub tcp_established_timeout: Option<Duration>,
    /// `nf_conntrack_tcp_timeout_close_wait`.
    pub tcp_close_wait_timeout: Option<Duration>,
    /// `nf_conntrack_tcp_be_liberal`.
    pub tcp_be_liberal: bool,
    /// `nf_conntrack_udp_timeout`.
    pub udp_timeout: Option<Duration>,
    /// `nf_conntrack_udp_timeout_stream`.
    pub udp_stream_timeout: Option<Duration>,
}

impl Conntrack {
    /// `nf_conntrack_max` on a machine with that many processors.
    pub fn max(&self, processors: u32) -> Option<u32> {
        const HIGHEST: u32 = 1 << 20;
        Some(self.min.max(self.max_per_core?.saturating_mul(processors)).min(HIGHEST.max(self.min)))
    }
}

/// The configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is no YAML.
    #[error("{file} is not valid: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong, with the line.
        message: String,
    },
    /// A field has a value of a wrong type.
    #[error("{field} ({file}:{line}) cannot be read: {message}")]
    Field {
        /// The field.
        field: String,
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// The file holds something else.
    #[error(
        "{0} is no configuration of kube-proxy: it must have apiVersion kubeproxy.config.k8s.io/v1alpha1 and kind KubeProxyConfiguration"
    )]
    Foreign(String),
    /// Fields have values that cannot be used; each sentence names the field and its flag.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// A configuration, and what to tell about it once.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences: what is ignored, and what is done otherwise.
    pub warnings: Vec<String>,
}

impl Config {
    /// The configuration of flags and of the file that `--config` names: its name and its text.
    pub fn read(flags: &Flags, file: Option<(&str, &str)>) -> Result<Loaded, ConfigError> {
        let mut warnings = Vec::new();
        let mut fields = match file {
            Some((name, text)) => file::read(name, text, &mut warnings)?,
            None => flags.fields(),
        };
        flags.warn(file.is_some(), &mut warnings);
        if let Some(name) = &flags.hostname_override {
            fields.hostname_override = Some(name.trim().to_lowercase());
        }
        if let Some(verbosity) = flags.v {
            fields.logging.verbosity = Some(verbosity);
        }
        let config = validate::config(&fields, flags, file.is_none(), &mut warnings)?;
        Ok(Loaded { config, warnings })
    }
}

#[cfg(test)]
mod tests;
