//! The store `dir`: a directory with `net-conf.json` and one file for each node, `nodes/NAME.json`, that people can read and write.
//!
//! Several daemons work on it at once, on one machine or over a shared mount. It decides nothing; who can be believed is the model's
//! question.

mod files;
mod follow;
mod lock;

use std::error::Error;
use std::future;
use std::io;
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dataplane::words::{Family, PerFamily, Prefix};
use tokio::sync::mpsc;
use tokio::task;

use self::files::Layout;
use super::{LeaseRequest, Store, StoreError, StoreEvent};
use crate::allocation;
use crate::config::net_conf::NetConf;
use crate::hash::fnv;
use crate::model::{Lease, NodeName, Vtep};

/// How often the files are looked at where the kernel does not tell of changes: on shared mounts.
pub const POLL: Duration = Duration::from_secs(10);

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct DirStore {
    layout: Layout,
    poll: Duration,
    lock_wait: Duration,
    /// The node that took its subnets here.
    own: Arc<OnceLock<NodeName>>,
}

impl DirStore {
    /// The store in `dir`, with the network configuration in `net_conf` where that is not the directory's own `net-conf.json`.
    /// `poll` is how often it is looked at beside the kernel's notifications ([`POLL`]).
    pub fn new(dir: PathBuf, net_conf: Option<PathBuf>, poll: Duration) -> Self {
        Self { layout: Layout::new(dir, net_conf), poll, lock_wait: Duration::from_secs(15), own: Arc::default() }
    }

    /// The same with another bound on waiting for other daemons.
    #[cfg(test)]
    fn with_lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// Works on the files, off the runtime's own threads.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Layout) -> T + Send + 'static) -> T {
        let layout = self.layout.clone();
        match task::spawn_blocking(move || work(&layout)).await {
            Ok(done) => done,
            Err(stopped) if stopped.is_panic() => panic::resume_unwind(stopped.into_panic()),
            // The runtime ends, and this task with it.
            Err(_) => future::pending().await,
        }
    }
}

impl Store for DirStore {
    async fn net_conf(&self) -> Result<String, StoreError> {
        self.run(Layout::read_net_conf).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.run(Layout::read_leases).await
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let _ = self.own.set(request.node.clone());
        self.run(Layout::make_folders).await?;
        let lock = lock::take(&self.layout, &request.node, self.lock_wait).await?;
        let (request, conf) = (request.clone(), conf.clone());
        let lease = self.run(move |layout| acquire(layout, &request, &conf)).await;
        drop(lock);
        lease
    }

    async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.run(move |layout| layout.write_lease(&lease)).await
    }

    async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        let node = node.clone();
        self.run(move |layout| layout.remove_lease(&node)).await
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        follow::start(self.layout.clone(), self.poll, self.own.get())
    }
}

/// Takes and publishes the node's lease. The caller holds the lock.
fn acquire(layout: &Layout, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
    layout.sweep_lease(&request.node);
    let leases = layout.read_leases()?;
    let stored = leases.iter().find(|lease| lease.node == request.node);
    let lease = Lease {
        node: request.node.clone(),
        subnets: subnets(request, conf, stored, &leases)?,
        public: request.public,
        backend: request.backend.clone(),
        vteps: request.vteps.map(|family, wish| {
            let stored = stored.and_then(|lease| lease.vteps.get(family));
            Vtep { vni: wish.vni, mac: wish.mac(stored.map(|vtep| vtep.mac)) }
        }),
        // What peers rely on stays until the kernel is as the new configuration wants it.
        ways: stored.and_then(|lease| lease.ways.clone()),
    };
    if stored != Some(&lease) {
        layout.write_lease(&lease)?;
    }
    Ok(lease)
}

fn subnets(
    request: &LeaseRequest,
    conf: &NetConf,
    stored: Option<&Lease>,
    leases: &[Lease],
) -> Result<PerFamily<Prefix>, StoreError> {
    let mut subnets = PerFamily::none();
    for family in Family::BOTH {
        let Some(range) = conf.networks.get(family) else { continue };
        // What the node has, its pods use: it stays, whatever other leases say.
        let stored = stored.and_then(|lease| lease.subnets.get(family)).filter(|subnet| range.suits(**subnet));
        let subnet = match stored {
            Some(&subnet) => Ok(subnet),
            None => allocation::next_free(
                range,
                leases
                    .iter()
                    .filter(|lease| lease.node != request.node)
                    .filter_map(|lease| lease.subnets.get(family).copied()),
                request.previous.get(family).copied(),
                seed(&request.node),
            ),
        };
        let subnet =
            subnet.map_err(|error| StoreError::Allocate { node: request.node.clone(), source: error.into() })?;
        *subnets.slot(family) = Some(subnet);
    }
    Ok(subnets)
}

/// A number that is a node's own, so that a node without any memory still tends to get the subnet it had.
fn seed(node: &NodeName) -> u64 {
    fnv(node.as_str().as_bytes())
}

fn cause(error: io::Error) -> Box<dyn Error + Send + Sync> {
    error.into()
}

#[cfg(test)]
mod tests;
