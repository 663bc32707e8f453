//! Command line flags and their environment variables: flanneld's, as far as netd has the feature, and netd's own.
//!
//! Pure: [`Cli::read`] takes the arguments and the environment.

mod cni;
mod go_style;
mod stores;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use network::model::NodeName;
use regex_lite::Regex;

pub use self::cni::CniFlags;
pub use self::stores::{EtcdFlags, KubeFlags};
use crate::subnet_env::SUBNET_FILE;

/// The node daemon of a pod network: takes this node's subnet, follows its peers, and keeps the kernel's routes and tunnels up to date.
///
/// Every flag can be given by its environment variable too; a flag wins. `-flag` is the same as `--flag`.
#[derive(Debug, Clone, Parser)]
#[command(name = "netd", version, disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    /// The command; without one netd is the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags.
    #[command(flatten)]
    pub flags: Flags,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print what a reconcile would change now, as shell commands, and change nothing: exit 0 nothing, 2 changes, 1 error.
    Plan,
    /// Find what keeps pods from reaching each other, ask every peer, and print what to type: exit 0 nothing is wrong, 2 findings, 1 error.
    ///
    /// Give it the daemon's own flags. It changes nothing.
    Doctor {
        /// How to show the findings.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Remove everything that netd has made from this node, and nothing else.
    Cleanup,
    /// Install the CNI plugin into the node's directory of plugins, and check that every plugin of the configuration is there.
    InstallCni,
    /// Print the status of the running netd: readiness, lease, peers and the routes to them, last reconcile, problems.
    ///
    /// Exit 0 ready, 1 error, 2 not ready, 3 no netd is running here: then it prints what the kernel has.
    Status(StatusArgs),
    /// Print the version.
    Version,
}

/// How `netd status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,

    /// Print the status again at each change, until netd ends.
    #[arg(short, long)]
    pub watch: bool,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// JSON; one line each with --watch.
    Json,
    /// YAML.
    Yaml,
}

/// The flags, before or after the subcommand.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Interface (name or IP) for traffic between nodes; may be given more than once, the first that is there is used.
    #[arg(long, global = true, env = "FLANNELD_IFACE", value_delimiter = ',', value_name = "NAME|IP")]
    pub iface: Vec<String>,

    /// Regular expression for the interface's IP or name, tried after --iface; may be given more than once.
    #[arg(long, global = true, env = "FLANNELD_IFACE_REGEX", value_name = "REGEX")]
    pub iface_regex: Vec<Regex>,

    /// Use the interface through which this IP is reached, where neither --iface nor --iface-regex is given.
    #[arg(long, global = true, env = "FLANNELD_IFACE_CAN_REACH", value_name = "IP")]
    pub iface_can_reach: Option<IpAddr>,

    /// IPv4 address where other nodes reach this node, if not the interface's.
    #[arg(long, global = true, env = "FLANNELD_PUBLIC_IP", value_name = "IP")]
    pub public_ip: Option<Ipv4Addr>,

    /// IPv6 address where other nodes reach this node, if not the interface's.
    #[arg(long, global = true, env = "FLANNELD_PUBLIC_IPV6", value_name = "IP")]
    pub public_ipv6: Option<Ipv6Addr>,

    /// File with this node's subnet and MTU for the CNI plugin.
    #[arg(
        long,
        global = true,
        env = "FLANNELD_SUBNET_FILE",
        default_value = SUBNET_FILE,
        value_name = "FILE"
    )]
    pub subnet_file: PathBuf,

    /// Masquerade traffic from pods to outside of the network.
    #[arg(long, global = true, env = "FLANNELD_IP_MASQ", default_value = "false", value_parser = go_style::boolean,
          action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub ip_masq: bool,

    /// Do not let masquerading choose ports at random.
    #[arg(long, global = true, env = "FLANNELD_IP_MASQ_FULLY_RANDOM_DISABLE", default_value = "false", value_parser = go_style::boolean,
          action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub ip_masq_fully_random_disable: bool,

    /// Accept forwarded traffic from and to pods in the host's firewall.
    #[arg(long, global = true, env = "FLANNELD_IPTABLES_FORWARD_RULES", default_value = "true", value_parser = go_style::boolean,
          action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub iptables_forward_rules: bool,

    /// Seconds between two comparisons of the kernel with the desired state [default: 10].
    #[arg(long, global = true, env = "FLANNELD_IPTABLES_RESYNC", value_parser = seconds, value_name = "SECONDS")]
    pub iptables_resync: Option<NonZeroU32>,

    /// File with the network configuration [default: net-conf.json in --store-dir; with --kube-subnet-mgr
    /// /etc/kube-flannel/net-conf.json].
    #[arg(long, global = true, env = "FLANNELD_NET_CONFIG_PATH", value_name = "FILE")]
    pub net_config_path: Option<PathBuf>,

    /// Directory with the network configuration and the nodes' leases, shared by the nodes: the store if no other is chosen
    /// [default: /var/lib/netd/store].
    #[arg(long, global = true, env = "FLANNELD_STORE_DIR", value_name = "DIR")]
    pub store_dir: Option<PathBuf>,

    /// The store in etcd.
    #[command(flatten)]
    pub etcd: EtcdFlags,

    /// The store in the API server.
    #[command(flatten)]
    pub kube: KubeFlags,

    /// This node's name [default: the host's name].
    #[arg(long, global = true, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<NodeName>,

    /// Directory to install the plugin's CNI configuration in when the network is ready, such as /etc/cni/net.d [default: none].
    #[arg(long, global = true, env = "FLANNELD_CNI_CONF_DIR", value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,

    /// Name of that configuration.
    #[arg(
        long,
        global = true,
        env = "FLANNELD_CNI_CONF_NAME",
        default_value = "10-netd.conflist",
        value_parser = file_name,
        value_name = "NAME"
    )]
    pub cni_conf_name: String,

    /// The plugin and its configuration.
    #[command(flatten)]
    pub cni: CniFlags,

    /// Address to answer /healthz, /readyz and /metrics on.
    #[arg(long, global = true, env = "FLANNELD_HEALTHZ_IP", default_value = "0.0.0.0", value_name = "IP")]
    pub healthz_ip: IpAddr,

    /// Port to answer them on; 0 for none.
    #[arg(long, global = true, env = "FLANNELD_HEALTHZ_PORT", default_value_t = 0, value_name = "PORT")]
    pub healthz_port: u16,

    /// Socket that `netd status` asks [default: /run/netd/netd.sock, or next to --subnet-file where that is given].
    #[arg(long, global = true, env = "FLANNELD_STATUS_SOCKET", value_name = "FILE")]
    pub status_socket: Option<PathBuf>,
}

/// Flanneld's flags for features that netd does not have (yet).
const NOT_SUPPORTED: [&str; 5] = ["ip-blackhole-route", "v", "vmodule", "log_backtrace_at", "log-backtrace-at"];

/// The command line is not accepted, or asks for help.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A flag of flanneld's that netd does not have.
    #[error("{given} is a flag of flanneld's that netd does not support: leave it out")]
    NotSupported {
        /// The flag, or its environment variable.
        given: String,
    },
    /// Help, or a wrong flag, with the environment variable that it may come from.
    #[error("{error}{}", variable.as_ref().map(|name| format!("\nThe flag's environment variable is {name}.")).unwrap_or_default())]
    Usage {
        /// Clap's text, which names the flag.
        error: clap::Error,
        /// The flag's variable.
        variable: Option<String>,
    },
}

impl Cli {
    /// Reads the arguments, the program's name first, and the environment through `variable`. A flag wins over its variable. An empty
    /// variable counts as unset.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Cli, CliError> {
        let mut args = args.into_iter();
        let program = args.next().unwrap_or_else(|| "netd".into());
        let args: Vec<OsString> = args.map(go_style::with_two_dashes).collect();
        refuse_unsupported(&args, &variable)?;
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());

        // Variables become arguments, so that clap checks both alike. Clap itself reads no variables.
        let mut all = vec![program];
        let command = Cli::command().mut_args(|arg| {
            let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else { return arg };
            let flag = arg.get_long().unwrap_or_default().to_owned();
            if let Some(value) = variable(&name)
                && !args.iter().any(|given| go_style::name(given) == Some(&flag))
            {
                let mut given = OsString::from(format!("--{flag}="));
                given.push(value);
                all.push(given);
            }
            let help = format!("{} [env: {name}]", arg.get_help().cloned().unwrap_or_default());
            arg.env(None::<&'static str>).help(help)
        });
        all.extend(args);
        let names = Cli::command();
        let wrong = |error: clap::Error| CliError::Usage { variable: variable_of(&names, &error), error };
        let matches = command.try_get_matches_from(all).map_err(wrong)?;
        Cli::from_arg_matches(&matches).map_err(wrong)
    }
}

fn refuse_unsupported(args: &[OsString], variable: &impl Fn(&str) -> Option<OsString>) -> Result<(), CliError> {
    let named = args.iter().filter_map(go_style::name).find(|name| NOT_SUPPORTED.contains(name));
    let flag = named.map(|name| format!("--{name}"));
    let set =
        NOT_SUPPORTED.into_iter().map(go_style::variable).find(|name| variable(name).is_some_and(|v| !v.is_empty()));
    match flag.or(set) {
        Some(given) => Err(CliError::NotSupported { given }),
        None => Ok(()),
    }
}

/// The environment variable of the flag that an error is about.
fn variable_of(command: &clap::Command, error: &clap::Error) -> Option<String> {
    let ContextValue::String(about) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = about.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag))?;
    Some(arg.get_env()?.to_str()?.to_owned())
}

impl CliError {
    /// The exit code: 0 for help, else 1, as flanneld's (2 means "changes" to `netd plan`).
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage { error, .. } if !error.use_stderr() => 0,
            _ => 1,
        }
    }
}

fn seconds(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("it must be a whole number of seconds from 1 to {}", u32::MAX))
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
