//! The configuration: made from the command line once, checked, with every default filled in.
//!
//! Pure. The caller reads the arguments, the environment and the files.

pub mod flags;
pub mod store;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane::types::PerFamily;
use network::interface::InterfaceOptions;
use network::model::NodeName;
use network::net_conf::NetConf;
use network::overlay::masquerade::Ports;
use regex_lite::Regex;

use crate::identity;
use crate::subnet_env::SUBNET_FILE;
use flags::Flags;
pub use store::{DirConfig, EtcdConfig, KubeConfig, NetConfSource, StoreConfig, StoreConfigError};

/// Where `netd status` finds the daemon with the usual subnet file.
const STATUS_SOCKET: &str = "/run/netd/netd.sock";
/// Where `netd install-cni` puts the plugin by default.
const BIN_DIR: &str = "/opt/cni/bin";

/// What the operator has configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name, if configured.
    pub node_name: Option<NodeName>,
    /// The file that gives the CNI plugin this node's subnets and MTU.
    pub subnet_file: PathBuf,
    /// The interface for packets between nodes.
    pub underlay: UnderlayConfig,
    /// The rules for packets of pods.
    pub rules: RulesConfig,
    /// Time between two comparisons of the kernel with the desired state, if configured.
    pub resync: Option<Duration>,
    /// The store.
    pub store: StoreConfig,
    /// The CNI plugin.
    pub cni: CniConfig,
    /// Where the daemon answers.
    pub status: StatusConfig,
}

/// How the interface for packets between nodes is chosen.
#[derive(Debug, Clone)]
pub struct UnderlayConfig {
    /// Names and addresses; the first that exists is used.
    pub ifaces: Vec<String>,
    /// Expressions for names and addresses, tried after `ifaces`.
    pub regexes: Vec<Regex>,
    /// The interface that leads to this address, if neither is given.
    pub can_reach: Option<IpAddr>,
    /// This node's public addresses, where they are not the interface's.
    pub public: PerFamily<IpAddr>,
}

/// Which packets of pods are masqueraded and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesConfig {
    /// How ports are chosen for masqueraded packets; `None` for no masquerading.
    pub masquerade: Option<Ports>,
    /// True to accept forwarded packets of pods in the host's firewall.
    pub accept_forwarded: bool,
}

/// Where the CNI plugin and its configuration are.
#[derive(Debug, Clone)]
pub struct CniConfig {
    /// The configuration list to install; `None` for the built-in one.
    pub conf_source: Option<PathBuf>,
    /// The directory to install the list in, if at all.
    pub conf_dir: Option<PathBuf>,
    /// The list's file name there.
    pub conf_name: String,
    /// The directory of CNI plugins.
    pub bin_dir: PathBuf,
    /// True if the operator gave `bin_dir`: then `netd cleanup` removes the plugin from there.
    pub bin_dir_given: bool,
    /// The plugin's program; `None` for the one beside netd.
    pub plugin: Option<PathBuf>,
}

/// Where the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// The address of `/healthz`, `/readyz` and `/metrics`; `None` for none.
    pub health: Option<SocketAddr>,
    /// The socket of `netd status`.
    pub socket: PathBuf,
}

impl Config {
    /// Checks the flags and fills in the defaults.
    ///
    /// # Errors
    /// If the flags of the stores contradict each other, or one has a wrong value.
    pub fn new(flags: Flags) -> Result<Self, StoreConfigError> {
        let store = StoreConfig::new(&flags)?;
        let ports = if flags.ip_masq_fully_random_disable { Ports::Kernel } else { Ports::FullyRandom };
        let socket = flags.status_socket.unwrap_or_else(|| status_socket(&flags.subnet_file));
        Ok(Self {
            node_name: flags.node_name,
            subnet_file: flags.subnet_file,
            underlay: UnderlayConfig {
                ifaces: flags.iface,
                regexes: flags.iface_regex,
                can_reach: flags.iface_can_reach,
                public: PerFamily { v4: flags.public_ip.map(IpAddr::from), v6: flags.public_ipv6.map(IpAddr::from) },
            },
            rules: RulesConfig {
                masquerade: flags.ip_masq.then_some(ports),
                accept_forwarded: flags.iptables_forward_rules,
            },
            resync: flags.iptables_resync.map(|seconds| Duration::from_secs(seconds.get().into())),
            store,
            cni: CniConfig {
                conf_source: flags.cni.cni_conf_source,
                conf_dir: flags.cni_conf_dir,
                conf_name: flags.cni_conf_name,
                bin_dir_given: flags.cni.cni_bin_dir.is_some(),
                bin_dir: flags.cni.cni_bin_dir.unwrap_or_else(|| BIN_DIR.into()),
                plugin: flags.cni.cni_plugin,
            },
            status: StatusConfig {
                health: (flags.healthz_port != 0).then(|| SocketAddr::new(flags.healthz_ip, flags.healthz_port)),
                socket,
            },
        })
    }
}

/// The socket of the daemon with this subnet file. Two daemons on one host have two subnet files, so they have two sockets.
fn status_socket(subnet_file: &Path) -> PathBuf {
    if subnet_file == Path::new(SUBNET_FILE) {
        return STATUS_SOCKET.into();
    }
    subnet_file.with_file_name(format!("{}.sock", identity::mark(subnet_file)))
}

impl UnderlayConfig {
    /// What decides the choice, for pods and a backend as the network is configured.
    pub fn interface_options(&self, conf: &NetConf) -> InterfaceOptions {
        InterfaceOptions {
            ifaces: self.ifaces.clone(),
            regexes: self.regexes.clone(),
            can_reach: self.can_reach,
            public: self.public,
            pods: conf.networks.families().collect(),
            nat: conf.backend.allows_nat(),
        }
    }
}

impl CniConfig {
    /// The file that the configuration list is installed as, if at all.
    pub fn conf_path(&self) -> Option<PathBuf> {
        self.conf_dir.as_ref().map(|dir| dir.join(&self.conf_name))
    }
}

#[cfg(test)]
impl Config {
    /// The configuration of a command line, without the program's name.
    pub(crate) fn of(args: &[&str]) -> Self {
        let args = ["netd"].iter().chain(args).map(std::ffi::OsString::from);
        Self::new(flags::Cli::read(args, |_| None).expect("good flags").flags).expect("flags that fit together")
    }
}

#[cfg(test)]
mod tests;
