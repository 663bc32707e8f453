//! The proxy for Services inside netd: whether it runs, and where Services come from.
//!
//! Pure.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Config, StoreFlagError};

/// The flags of the proxy.
#[derive(Debug, Clone, Args)]
pub struct ProxyConfig {
    /// Run the proxy for Services, as kube-proxy does: `auto` leaves Services to a kube-proxy that runs on the node
    /// [default: auto with --services-dir, else off].
    #[arg(long = "proxy", value_enum, value_name = "auto|on|off")]
    mode: Option<ProxyMode>,

    /// Directory of Kubernetes YAML or JSON with Services and `EndpointSlices` [default: the API server, with --kube-subnet-mgr].
    #[arg(long, value_name = "DIR")]
    services_dir: Option<PathBuf>,

    /// File with a `KubeProxyConfiguration` [default: kube-proxy's defaults; the pods' ranges and this node's name are netd's].
    #[arg(long = "proxy-config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Whether the proxy runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    /// Unless a kube-proxy runs on the node.
    Auto,
    /// Whatever else runs.
    On,
    /// Never.
    Off,
}

/// Where Services come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicesSource {
    /// A directory.
    Directory(PathBuf),
    /// The API server that is the store too.
    Api {
        /// The URL, if configured.
        url: Option<String>,
        /// The kubeconfig, if configured.
        kubeconfig: Option<PathBuf>,
    },
}

impl ProxyConfig {
    /// Whether the proxy runs.
    pub fn mode(&self) -> ProxyMode {
        let default = if self.services_dir.is_some() { ProxyMode::Auto } else { ProxyMode::Off };
        self.mode.unwrap_or(default)
    }
}

impl Config {
    /// Where Services come from; `None` where nothing has them.
    pub fn services_source(&self) -> Option<ServicesSource> {
        let (dir, kube) = (self.proxy.services_dir.clone(), &self.store.kube);
        let api = kube
            .kube_subnet_mgr
            .then(|| ServicesSource::Api { url: kube.kube_api_url.clone(), kubeconfig: kube.kubeconfig_file.clone() });
        dir.map(ServicesSource::Directory).or(api)
    }

    /// Checks the proxy's flags.
    ///
    /// # Errors
    /// Where the proxy should run and nothing has Services, or a flag says nothing since the proxy is off.
    pub fn check_proxy(&self) -> Result<(), StoreFlagError> {
        let is_off = self.proxy.mode() == ProxyMode::Off;
        let refused = if !is_off && self.services_source().is_none() {
            "--proxy needs a source of Services: give --services-dir, or --kube-subnet-mgr for the API server"
        } else if is_off && self.proxy.services_dir.is_some() {
            "--services-dir says nothing with --proxy=off: leave one of them out"
        } else if is_off && self.proxy.file.is_some() {
            "--proxy-config says nothing while the proxy is off: give --proxy=on or --proxy=auto too, or leave it out"
        } else {
            return Ok(());
        };
        Err(StoreFlagError::new(refused))
    }
}
