//! The store that the flags choose.

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

/// One of the stores.
#[derive(Debug)]
pub enum Chosen {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
    /// The API server.
    Kube(KubeStore),
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// Two stores are asked for.
    #[error(
        "{flag} is of another store than etcd, which the flags that begin with --etcd- choose: leave one of them out{}",
        hint(flag)
    )]
    Two {
        /// The flag that does not fit.
        flag: &'static str,
    },
    /// Two stores are asked for, one of them the API server.
    #[error("{flag} is of another store than the API server, which --kube-subnet-mgr chooses: leave one of them out")]
    BesideKube {
        /// The flag that does not fit.
        flag: &'static str,
    },
    /// A flag of a store that is not chosen.
    #[error("{flag} says nothing without --kube-subnet-mgr: give that too, or leave it out")]
    WithoutKube {
        /// The flag.
        flag: &'static str,
    },
    /// etcd's flags are wrong.
    #[error("etcd cannot be the store")]
    Etcd(#[from] etcd::OptionsError),
    /// The API server's flags are wrong.
    #[error("the API server cannot be the store")]
    Kube(#[from] kube::OptionsError),
}

fn hint(flag: &str) -> &'static str {
    if flag == "--net-config-path" { " (with etcd the network configuration is in its key PREFIX/config)" } else { "" }
}

impl Chosen {
    /// The store that the flags choose. `waits` is true for a daemon, which waits for its store at its start. To be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Where the flags contradict each other or name what cannot be used.
    pub fn new(flags: &Flags, waits: bool) -> Result<Self, ChoiceError> {
        let kube = &flags.kube;
        if kube.kube_subnet_mgr {
            let foreign = [("--store-dir", flags.store_dir.is_some()), ("an --etcd- flag", flags.etcd.is_chosen())];
            if let Some((flag, _)) = foreign.into_iter().find(|(_, given)| *given) {
                return Err(ChoiceError::BesideKube { flag });
            }
            return Ok(Self::Kube(KubeStore::new(flags, waits)?));
        }
        let idle = [
            ("--kube-api-url", kube.kube_api_url.is_some()),
            ("--kubeconfig-file", kube.kubeconfig_file.is_some()),
            ("--net-conf-configmap", kube.net_conf_configmap.is_some()),
        ];
        if let Some((flag, _)) = idle.into_iter().find(|(_, given)| *given) {
            return Err(ChoiceError::WithoutKube { flag });
        }
        if !flags.etcd.is_chosen() {
            return Ok(Self::Dir(DirStore::new(flags.store_dir(), flags.net_config_path.clone(), POLL)));
        }
        let foreign =
            [("--store-dir", flags.store_dir.is_some()), ("--net-config-path", flags.net_config_path.is_some())];
        if let Some((flag, _)) = foreign.into_iter().find(|(_, given)| *given) {
            return Err(ChoiceError::Two { flag });
        }
        Ok(Self::Etcd(EtcdStore::new(&flags.etcd, waits)?))
    }
}

/// Calls a method of whichever store it is.
macro_rules! each {
    ($chosen:expr, $store:ident => $call:expr) => {
        match $chosen {
            Chosen::Dir($store) => $call,
            Chosen::Etcd($store) => $call,
            Chosen::Kube($store) => $call,
        }
    };
}

impl Store for Chosen {
    async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    async fn public(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        each!(self, store => store.public(node).await)
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

    fn tell(&self, notice: Notice) {
        each!(self, store => store.tell(notice));
    }

    async fn tell_last(&self, node: Option<&NodeName>, notice: Notice) {
        each!(self, store => store.tell_last(node, notice).await);
    }

    async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        each!(self, store => store.node_name().await)
    }

    fn standing(&self) -> Option<watch::Receiver<Option<String>>> {
        each!(self, store => store.standing())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}
