//! The store that the flags choose.

use tokio::sync::mpsc;

use super::dir::{DirStore, POLL};
use super::etcd::{EtcdStore, OptionsError};
use super::{LeaseRequest, Store, StoreError, StoreEvent};
use crate::config::flags::Flags;
use crate::config::net_conf::NetConf;
use crate::model::{Lease, NodeName};

/// One of the stores.
#[derive(Debug)]
pub enum Chosen {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
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
    /// etcd's flags are wrong.
    #[error("etcd cannot be the store")]
    Etcd(#[from] OptionsError),
}

fn hint(flag: &str) -> &'static str {
    if flag == "--net-config-path" { " (with etcd the network configuration is in its key PREFIX/config)" } else { "" }
}

impl Chosen {
    /// The store that the flags choose. `waits` is true for a daemon, which waits for its store at its start.
    ///
    /// # Errors
    /// Where the flags contradict each other or name what cannot be used.
    pub fn new(flags: &Flags, waits: bool) -> Result<Self, ChoiceError> {
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
        }
    };
}

impl Store for Chosen {
    async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        each!(self, store => store.lease(node).await)
    }

    async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
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

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}
