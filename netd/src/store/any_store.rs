//! The store that the flags select.

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::PerFamily;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch};

use super::dir::{DirStore, POLL};
use super::etcd::{self, EtcdStore};
use super::kube::{self, KubeStore};
use super::{LeaseRequest, Notice, Store, StoreError, StoreEvent};
use crate::config::flags::Flags;

/// One of the three stores.
pub enum AnyStore {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
    /// The API server.
    Kube(KubeStore),
}

/// Why the flags select no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreFlagsError {
    /// A flag of another store beside etcd's.
    #[error(
        "{flag} belongs to another store than etcd, which the flags that begin with --etcd- select: leave one of them out{}",
        hint(flag)
    )]
    BesideEtcd {
        /// The conflicting flag.
        flag: &'static str,
    },
    /// A flag of another store beside the API server's.
    #[error(
        "{flag} belongs to another store than the API server, which --kube-subnet-mgr selects: leave one of them out"
    )]
    BesideKube {
        /// The conflicting flag.
        flag: &'static str,
    },
    /// A flag of the API server's store without the flag that selects that store.
    #[error("{flag} has no effect without --kube-subnet-mgr: add --kube-subnet-mgr, or leave {flag} out")]
    WithoutKube {
        /// The flag.
        flag: &'static str,
    },
    /// An invalid etcd flag.
    #[error("etcd cannot be the store")]
    Etcd(#[from] etcd::OptionsError),
    /// An invalid flag of the API server's store.
    #[error("the API server cannot be the store")]
    Kube(#[from] kube::OptionsError),
}

fn hint(flag: &str) -> &'static str {
    if flag == "--net-config-path" { " (with etcd the network configuration is in its key PREFIX/config)" } else { "" }
}

impl AnyStore {
    /// The store that the flags select. `waits` is true for a daemon, which waits for its store while it starts, and false for a
    /// command. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the flags contradict each other or one has an invalid value.
    pub fn new(flags: &Flags, waits: bool) -> Result<Self, StoreFlagsError> {
        let kube = &flags.kube;
        if kube.kube_subnet_mgr {
            let conflicting = [("--store-dir", flags.store_dir.is_some()), ("an --etcd- flag", flags.etcd.is_chosen())];
            if let Some((flag, _)) = conflicting.into_iter().find(|(_, given)| *given) {
                return Err(StoreFlagsError::BesideKube { flag });
            }
            return Ok(Self::Kube(KubeStore::new(flags, waits)?));
        }
        let ineffective = [
            ("--kube-api-url", kube.kube_api_url.is_some()),
            ("--kubeconfig-file", kube.kubeconfig_file.is_some()),
            ("--net-conf-configmap", kube.net_conf_configmap.is_some()),
        ];
        if let Some((flag, _)) = ineffective.into_iter().find(|(_, given)| *given) {
            return Err(StoreFlagsError::WithoutKube { flag });
        }
        if !flags.etcd.is_chosen() {
            return Ok(Self::Dir(DirStore::new(flags.store_dir(), flags.net_config_path.clone(), POLL)));
        }
        let conflicting =
            [("--store-dir", flags.store_dir.is_some()), ("--net-config-path", flags.net_config_path.is_some())];
        if let Some((flag, _)) = conflicting.into_iter().find(|(_, given)| *given) {
            return Err(StoreFlagsError::BesideEtcd { flag });
        }
        Ok(Self::Etcd(EtcdStore::new(&flags.etcd, waits)?))
    }
}

/// Calls a method of the selected store.
macro_rules! each {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            AnyStore::Dir($store) => $call,
            AnyStore::Etcd($store) => $call,
            AnyStore::Kube($store) => $call,
        }
    };
}

impl Store for AnyStore {
    async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    async fn public_addresses(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        each!(self, store => store.public_addresses(node).await)
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        each!(self, store => store.lease(node).await)
    }

    async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        each!(self, store => store.leases().await)
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        each!(self, store => store.acquire(request, conf).await)
    }

    async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        each!(self, store => store.publish(lease).await)
    }

    async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        each!(self, store => store.release(node).await)
    }

    fn notify(&self, notice: Notice) {
        each!(self, store => store.notify(notice));
    }

    async fn notify_before_exit(&self, node: Option<&NodeName>, notice: Notice) {
        each!(self, store => store.notify_before_exit(node, notice).await);
    }

    async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        each!(self, store => store.node_name().await)
    }

    fn startup_status(&self) -> Option<watch::Receiver<Option<String>>> {
        each!(self, store => store.startup_status())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}
