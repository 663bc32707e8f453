//! The flags for the plugin and its configuration.

use std::path::PathBuf;

use clap::Args;

/// The plugin's flags.
#[derive(Debug, Clone, Default, Args)]
pub struct CniFlags {
    /// File with the CNI configuration list to install, flannel's cni-conf.json too [default: a list with netd alone].
    #[arg(long, global = true, env = "FLANNELD_CNI_CONF_SOURCE", value_name = "FILE")]
    pub cni_conf_source: Option<PathBuf>,

    /// Directory of the node's CNI plugins: `netd install-cni` puts netd's there [default: /opt/cni/bin], and `netd cleanup` removes
    /// it from there if this is given.
    #[arg(long, global = true, env = "FLANNELD_CNI_BIN_DIR", value_name = "DIR")]
    pub cni_bin_dir: Option<PathBuf>,

    /// The plugin's program, for `netd install-cni` [default: netd-cni in netd's own directory].
    #[arg(long, global = true, env = "FLANNELD_CNI_PLUGIN", value_name = "FILE")]
    pub cni_plugin: Option<PathBuf>,
}
