//! Which store is used, and how it is reached.
//!
//! Pure. No file is read yet.

mod etcd;
mod kube;

use std::path::PathBuf;

pub use etcd::EtcdConfig;
pub use kube::{AnnotationPrefix, KubeConfig, NetConfSource, PrefixError};

use super::flags::Flags;

/// The directory of the store that is used if no other is chosen.
const STORE_DIR: &str = "/var/lib/netd/store";

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

/// The flags of the stores contradict each other, or one has a wrong value.
#[derive(Debug, thiserror::Error)]
pub enum StoreConfigError {
    /// A flag of another store beside those of etcd.
    #[error(
        "{flag} is of another store than etcd, which the flags that begin with --etcd- choose: leave one of them out{}",
        hint(flag)
    )]
    BesideEtcd {
        /// The flag of the other store.
        flag: &'static str,
    },
    /// A flag of another store beside the one that chooses the API server.
    #[error("{flag} is of another store than the API server, which --kube-subnet-mgr chooses: leave one of them out")]
    BesideKube {
        /// The flag of the other store.
        flag: &'static str,
    },
    /// A flag of a store that is not chosen.
    #[error("{flag} says nothing without --kube-subnet-mgr: give that too, or leave it out")]
    WithoutKube {
        /// The flag.
        flag: &'static str,
    },
    /// A flag of etcd's is wrong.
    #[error("etcd cannot be the store")]
    Etcd(#[source] FlagError),
    /// A flag of the API server's is wrong.
    #[error("the API server cannot be the store")]
    Kube(#[source] FlagError),
}

fn hint(flag: &str) -> &'static str {
    if flag == "--net-config-path" { " (with etcd the network configuration is in its key PREFIX/config)" } else { "" }
}

/// One flag is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Its value.
    #[error("{flag} is {value:?}: {problem}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The flag that belongs to it is missing.
    #[error("{given} needs {missing} too")]
    Half {
        /// The flag that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
}

impl StoreConfig {
    /// The store that the flags choose.
    ///
    /// # Errors
    /// If the flags contradict each other, or one has a wrong value.
    pub fn new(flags: &Flags) -> Result<Self, StoreConfigError> {
        let first = |flags: &[(&'static str, bool)]| flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
        let kube = &flags.kube;
        let of_dir = ("--store-dir", flags.store_dir.is_some());
        if kube.kube_subnet_mgr {
            return match first(&[of_dir, ("an --etcd- flag", flags.etcd.is_chosen())]) {
                Some(flag) => Err(StoreConfigError::BesideKube { flag }),
                None => KubeConfig::new(flags).map(Self::Kube).map_err(StoreConfigError::Kube),
            };
        }
        let of_kube = [
            ("--kube-api-url", kube.kube_api_url.is_some()),
            ("--kubeconfig-file", kube.kubeconfig_file.is_some()),
            ("--net-conf-configmap", kube.net_conf_configmap.is_some()),
        ];
        if let Some(flag) = first(&of_kube) {
            return Err(StoreConfigError::WithoutKube { flag });
        }
        if flags.etcd.is_chosen() {
            return match first(&[of_dir, ("--net-config-path", flags.net_config_path.is_some())]) {
                Some(flag) => Err(StoreConfigError::BesideEtcd { flag }),
                None => EtcdConfig::new(&flags.etcd).map(Self::Etcd).map_err(StoreConfigError::Etcd),
            };
        }
        let dir = flags.store_dir.clone().unwrap_or_else(|| STORE_DIR.into());
        Ok(Self::Dir(DirConfig { dir, net_conf: flags.net_config_path.clone() }))
    }
}

#[cfg(test)]
mod tests;
