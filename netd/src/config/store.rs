//! Which store is used, and how it is reached.
//!
//! Pure. No file is read yet.

mod etcd;
mod kube;

use std::path::{Path, PathBuf};

use clap::Args;
pub use etcd::{EtcdConfig, EtcdFlags};
pub use kube::{AnnotationPrefix, KubeConfig, KubeFlags, NetConfSource, REMEDIES};

/// The directory of the store that is used if no other is chosen.
const STORE_DIR: &str = "/var/lib/netd/store";

/// The flags of the stores.
#[derive(Debug, Clone, Args)]
pub struct StoreFlags {
    /// File with the network configuration [default: net-conf.json in --store-dir; with --kube-subnet-mgr
    /// /etc/kube-flannel/net-conf.json].
    #[arg(long, value_name = "FILE")]
    pub net_config_path: Option<PathBuf>,

    /// Directory with the network configuration and the nodes' leases, shared by the nodes: the store if no other is chosen
    /// [default: /var/lib/netd/store].
    #[arg(long, value_name = "DIR")]
    pub store_dir: Option<PathBuf>,

    /// The store in etcd.
    #[command(flatten)]
    pub etcd: EtcdFlags,

    /// The store in the API server.
    #[command(flatten)]
    pub kube: KubeFlags,
}

/// One of the stores.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A directory.
    Dir(DirConfig),
    /// etcd.
    Etcd(EtcdConfig),
    /// The API server.
    Kube(KubeConfig),
}

/// The store in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirConfig {
    /// The directory.
    pub dir: PathBuf,
    /// The file with the network configuration, if it is not in the directory.
    pub net_conf: Option<PathBuf>,
}

/// The flags of the stores contradict each other, or one has a wrong value: which, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreFlagError(String);

impl StoreFlagError {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn value(flag: &str, value: &str, problem: &str) -> Self {
        Self(format!("{flag} is {value:?}: {problem}"))
    }

    fn of_store(self, store: &str) -> Self {
        Self(format!("{store} cannot be the store: {self}"))
    }
}

impl StoreFlags {
    /// The store that the flags choose, for the daemon with this subnet file.
    ///
    /// # Errors
    /// If the flags contradict each other, or one has a wrong value.
    pub fn choose(&self, subnet_file: &Path) -> Result<StoreConfig, StoreFlagError> {
        let refuse = |flags: &[(&str, bool)], why: &str| match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(StoreFlagError(format!("{flag} {why}"))),
            None => Ok(()),
        };
        let kube = &self.kube;
        let of_dir = ("--store-dir", self.store_dir.is_some());
        if kube.kube_subnet_mgr {
            let why = "is of another store than the API server, which --kube-subnet-mgr chooses: leave one of them out";
            refuse(&[of_dir, ("an --etcd- flag", self.etcd.is_chosen())], why)?;
            let config = KubeConfig::new(kube, self.net_config_path.as_deref(), subnet_file);
            return config.map(StoreConfig::Kube).map_err(|error| error.of_store("the API server"));
        }
        let of_kube = [
            ("--kube-api-url", kube.kube_api_url.is_some()),
            ("--kubeconfig-file", kube.kubeconfig_file.is_some()),
            ("--net-conf-configmap", kube.net_conf_configmap.is_some()),
        ];
        refuse(&of_kube, "says nothing without --kube-subnet-mgr: give that too, or leave it out")?;
        if self.etcd.is_chosen() {
            let why =
                "is of another store than etcd, which the flags that begin with --etcd- choose: leave one of them out";
            refuse(&[of_dir], why)?;
            let hint = "(with etcd the network configuration is in its key PREFIX/config)";
            refuse(&[("--net-config-path", self.net_config_path.is_some())], &format!("{why} {hint}"))?;
            return self.etcd.config().map(StoreConfig::Etcd).map_err(|error| error.of_store("etcd"));
        }
        let dir = self.store_dir.clone().unwrap_or_else(|| STORE_DIR.into());
        Ok(StoreConfig::Dir(DirConfig { dir, net_conf: self.net_config_path.clone() }))
    }
}

#[cfg(test)]
mod tests;
