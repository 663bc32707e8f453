//! The configuration: the flags, and what follows from them.
//!
//! Pure. The caller reads the arguments, the environment and the files.

pub mod flags;
mod proxy;
pub mod store;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dataplane::types::PerFamily;
use network::interface::InterfaceOptions;
use network::model::NodeName;
use network::net_conf::NetConf;
use network::overlay::masquerade::Ports;
use regex_lite::Regex;

use crate::identity;
use crate::subnet_env::SUBNET_FILE;
pub use proxy::{ProxyConfig, ProxyMode, ServicesSource};
pub use store::{DirConfig, EtcdConfig, KubeConfig, NetConfSource, StoreConfig, StoreFlagError, StoreFlags};

/// Where `netd status` finds the daemon with the usual subnet file.
const STATUS_SOCKET: &str = "/run/netd/netd.sock";
/// Where `netd install-cni` puts the plugin by default.
const BIN_DIR: &str = "/opt/cni/bin";

/// What the operator has configured. [`flags::Cli::read`] completes the flags' attributes.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The interface for packets between nodes.
    #[command(flatten)]
    pub underlay: UnderlayConfig,

    /// File with this node's subnet and MTU for the CNI plugin.
    #[arg(long, default_value = SUBNET_FILE, value_name = "FILE")]
    pub subnet_file: PathBuf,

    /// The rules for packets of pods.
    #[command(flatten)]
    pub rules: RulesConfig,

    /// flanneld's; netd always has a route by which packets to addresses of the pod network that no node has end here.
    #[arg(long, default_value_t = false, value_name = "BOOL")]
    pub ip_blackhole_route: bool,

    /// Seconds between two comparisons of the kernel with the desired state [default: 10].
    #[arg(long = "iptables-resync", value_parser = seconds, value_name = "SECONDS")]
    pub resync: Option<Duration>,

    /// The store.
    #[command(flatten)]
    pub store: StoreFlags,

    /// This node's name [default: the host's name].
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<NodeName>,

    /// The CNI plugin.
    #[command(flatten)]
    pub cni: CniConfig,

    /// Where the daemon answers.
    #[command(flatten)]
    pub status: StatusConfig,

    /// The proxy for Services.
    #[command(flatten)]
    pub proxy: ProxyConfig,
}

/// How the interface for packets between nodes is chosen.
#[derive(Debug, Clone, Args)]
pub struct UnderlayConfig {
    /// Interface (name or IP) for traffic between nodes; may be given more than once, the first that is there is used.
    #[arg(long = "iface", value_delimiter = ',', value_name = "NAME|IP")]
    pub ifaces: Vec<String>,

    /// Regular expression for the interface's IP or name, tried after --iface; may be given more than once.
    #[arg(long = "iface-regex", value_name = "REGEX")]
    pub regexes: Vec<Regex>,

    /// Use the interface through which this IP is reached, where neither --iface nor --iface-regex is given.
    #[arg(long = "iface-can-reach", value_name = "IP")]
    pub can_reach: Option<IpAddr>,

    /// IPv4 address where other nodes reach this node, if not the interface's.
    #[arg(long, value_name = "IP")]
    pub public_ip: Option<Ipv4Addr>,

    /// IPv6 address where other nodes reach this node, if not the interface's.
    #[arg(long, value_name = "IP")]
    pub public_ipv6: Option<Ipv6Addr>,
}

/// Which packets of pods are masqueraded and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct RulesConfig {
    /// Masquerade traffic from pods to outside of the network.
    #[arg(long, default_value_t = false, value_name = "BOOL")]
    pub ip_masq: bool,

    /// Do not let masquerading choose ports at random.
    #[arg(long, default_value_t = false, value_name = "BOOL")]
    pub ip_masq_fully_random_disable: bool,

    /// Accept forwarded traffic from and to pods in the host's firewall.
    #[arg(long = "iptables-forward-rules", default_value_t = true, value_name = "BOOL")]
    pub accept_forwarded: bool,
}

/// Where the CNI plugin and its configuration are.
#[derive(Debug, Clone, Args)]
pub struct CniConfig {
    /// Directory to install the plugin's CNI configuration in when the network is ready, such as /etc/cni/net.d [default: none].
    #[arg(long = "cni-conf-dir", value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,

    /// Name of that configuration.
    #[arg(long = "cni-conf-name", default_value = "10-netd.conflist", value_parser = file_name, value_name = "NAME")]
    pub conf_name: String,

    /// File with the CNI configuration list to install, flannel's cni-conf.json too [default: a list with netd alone].
    #[arg(long = "cni-conf-source", value_name = "FILE")]
    pub conf_source: Option<PathBuf>,

    /// Directory of the node's CNI plugins: `netd install-cni` puts netd's there [default: /opt/cni/bin], and `netd cleanup` removes
    /// it from there if this is given.
    #[arg(long = "cni-bin-dir", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// The plugin's program, for `netd install-cni` [default: netd-cni in netd's own directory].
    #[arg(long = "cni-plugin", value_name = "FILE")]
    pub plugin: Option<PathBuf>,
}

/// Where the daemon answers.
#[derive(Debug, Clone, Args)]
pub struct StatusConfig {
    /// Address to answer /healthz, /readyz and /metrics on.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub healthz_ip: IpAddr,

    /// Port to answer them on; 0 for none.
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub healthz_port: u16,

    /// Socket that `netd status` asks [default: /run/netd/netd.sock, or next to --subnet-file where that is given].
    #[arg(long = "status-socket", value_name = "FILE")]
    pub socket: Option<PathBuf>,
}

impl Config {
    /// The socket of `netd status`. Two daemons on one host have two subnet files, so they have two sockets.
    pub fn status_socket(&self) -> PathBuf {
        match &self.status.socket {
            Some(socket) => socket.clone(),
            None if self.subnet_file == Path::new(SUBNET_FILE) => STATUS_SOCKET.into(),
            None => self.subnet_file.with_file_name(format!("{}.sock", identity::mark(&self.subnet_file))),
        }
    }
}

impl UnderlayConfig {
    /// What decides the choice, for pods and a backend as the network is configured.
    pub fn interface_options(&self, conf: &NetConf) -> InterfaceOptions {
        InterfaceOptions {
            ifaces: self.ifaces.clone(),
            regexes: self.regexes.clone(),
            can_reach: self.can_reach,
            public: PerFamily { v4: self.public_ip.map(IpAddr::from), v6: self.public_ipv6.map(IpAddr::from) },
            pods: conf.networks.families().collect(),
            nat: conf.backend.allows_nat(),
            in_use: PerFamily::none(),
        }
    }
}

impl RulesConfig {
    /// How ports are chosen for masqueraded packets; `None` for no masquerading.
    pub fn masquerade(&self) -> Option<Ports> {
        let ports = if self.ip_masq_fully_random_disable { Ports::Kernel } else { Ports::FullyRandom };
        self.ip_masq.then_some(ports)
    }
}

impl CniConfig {
    /// The file that the configuration list is installed as, if at all.
    pub fn conf_path(&self) -> Option<PathBuf> {
        self.conf_dir.as_ref().map(|dir| dir.join(&self.conf_name))
    }

    /// The directory of CNI plugins.
    pub fn bin_dir(&self) -> &Path {
        self.bin_dir.as_deref().unwrap_or(Path::new(BIN_DIR))
    }
}

impl StatusConfig {
    /// The address of `/healthz`, `/readyz` and `/metrics`; `None` for none.
    pub fn health(&self) -> Option<SocketAddr> {
        (self.healthz_port != 0).then(|| SocketAddr::new(self.healthz_ip, self.healthz_port))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("it must be a whole number of seconds from 1 to {}", u32::MAX)),
        Ok(seconds) => Ok(Duration::from_secs(u32::into(seconds))),
    }
}

fn file_name(name: &str) -> Result<String, String> {
    let known = [".conflist", ".conf", ".json"].iter().any(|suffix| name.ends_with(suffix));
    if known && !name.contains('/') && !name.starts_with('.') {
        Ok(name.to_owned())
    } else {
        Err("it must be a file name that ends in .conflist".to_owned())
    }
}

#[cfg(test)]
mod tests;
