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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task;

use self::files::{Layout, Leases};
use super::{LeaseRequest, Store, StoreError, StoreEvent, claim};
use crate::config::net_conf::NetConf;
use crate::model::{Lease, NodeName};

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
    /// What was read to find it a free subnet: whoever follows the store next need not read it again.
    read: Arc<Mutex<Leases>>,
}

impl DirStore {
    /// The store in `dir`, with the network configuration in `net_conf` where that is not the directory's own `net-conf.json`.
    /// `poll` is how often it is looked at beside the kernel's notifications ([`POLL`]).
    pub fn new(dir: PathBuf, net_conf: Option<PathBuf>, poll: Duration) -> Self {
        let (layout, lock_wait) = (Layout::new(dir, net_conf), Duration::from_secs(15));
        Self { layout, poll, lock_wait, own: Arc::default(), read: Arc::default() }
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

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        let node = node.clone();
        Ok(self.run(move |layout| layout.read_one(&node)).await)
    }

    async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let leases = self.run(Layout::read_leases).await?;
        Ok(leases.into_values().map(|(_, lease)| Arc::unwrap_or_clone(lease)).collect())
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let _ = self.own.set(request.node.clone());
        self.run(Layout::make_folders).await?;
        let lock = lock::take(&self.layout, &request.node, self.lock_wait).await?;
        let (request, conf) = (request.clone(), conf.clone());
        let lease = self.run(move |layout| acquire(layout, &request, &conf)).await;
        drop(lock);
        let (lease, read) = lease?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(lease)
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
        let read = std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner));
        follow::start(self.layout.clone(), self.poll, self.own.get(), read)
    }
}

/// Takes and publishes the node's lease, and gives what had to be read of others for that. The caller holds the lock.
fn acquire(layout: &Layout, request: &LeaseRequest, conf: &NetConf) -> Result<(Lease, Leases), StoreError> {
    layout.sweep_lease(&request.node);
    let stored = layout.read_one(&request.node);
    let stored = stored.as_ref();
    let former = stored.map(|lease| lease.subnets).unwrap_or_default();
    let leases = if claim::suffice(conf, former) { Leases::new() } else { layout.read_leases()? };
    let others = leases.values().filter(|(_, lease)| lease.node != request.node);
    let others: Vec<_> = others.map(|(_, lease)| lease.subnets).collect();
    let subnets = claim::subnets(request, conf, former, &others)?;
    let lease = claim::lease(request, subnets, stored);
    if stored != Some(&lease) {
        layout.write_lease(&lease)?;
    }
    Ok((lease, leases))
}

fn cause(error: io::Error) -> Box<dyn Error + Send + Sync> {
    error.into()
}

#[cfg(test)]
mod tests;
