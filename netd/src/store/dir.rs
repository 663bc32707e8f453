//! The store `dir`: a directory with `net-conf.json` and one file for each node, `nodes/NAME.json`, that people can read and write.
//!
//! Several daemons work on it at once, on one machine or over a shared mount. It decides nothing; who can be believed is the model's
//! question.

mod files;
mod fingerprint;
mod follow;
mod lock;
mod read;
mod texts;

use std::error::Error;
use std::future;
use std::io;
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::mpsc;
use tokio::task;

use self::files::Layout;
use self::follow::Begun;
use self::read::{Read, Reads};
use super::{LeaseRequest, Store, StoreError, StoreEvent, claim};

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
    /// Where that was the beginning of following the store, what was read for it.
    begun: Arc<Mutex<Option<Begun>>>,
}

impl DirStore {
    /// The store in `dir`, with the network configuration in `net_conf` where that is not the directory's own `net-conf.json`.
    /// `poll` is how often it is looked at beside the kernel's notifications ([`POLL`]).
    pub fn new(dir: PathBuf, net_conf: Option<PathBuf>, poll: Duration) -> Self {
        let (layout, lock_wait) = (Layout::new(dir, net_conf), Duration::from_secs(15));
        Self { layout, poll, lock_wait, own: Arc::default(), begun: Arc::default() }
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

    async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let reads = self.run(Layout::read_all).await?;
        let lease = |(name, read): (String, Read)| read.lease.inspect_err(|error| read::tell(&name, error)).ok();
        Ok(reads.into_iter().filter_map(lease).collect())
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.run(Layout::make_folders).await?;
        // Before the files are read: what changes meanwhile is then notified.
        let begun = self.own.set(request.node.clone()).is_ok().then(|| Begun::new(&self.layout));
        let lock = lock::take(&self.layout, &request.node, self.lock_wait).await?;
        let (request, conf) = (request.clone(), conf.clone());
        let lease = self.run(move |layout| acquire(layout, &request, &conf)).await;
        drop(lock);
        let (lease, read) = lease?;
        if let Some(mut begun) = begun {
            begun.read = read;
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        }
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
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let begun = begun.unwrap_or_else(|| Begun::new(&self.layout));
        follow::start(self.layout.clone(), self.poll, self.own.get(), begun)
    }
}

/// Takes and publishes the node's lease; gives the files too, as they are then, where they had to be read for that. The caller holds
/// the lock.
fn acquire(layout: &Layout, request: &LeaseRequest, conf: &NetConf) -> Result<(Lease, Option<Reads>), StoreError> {
    layout.sweep_lease(&request.node);
    let stored = layout.read_one(&request.node);
    let stored = stored.as_ref();
    let former = stored.map(|lease| lease.subnets).unwrap_or_default();
    let mut reads = if claim::suffice(conf, former) { None } else { Some(layout.read_all()?) };
    let leases = reads.iter().flatten().filter_map(|(_, read)| read.lease.as_ref().ok());
    let others: Vec<_> = leases.filter(|lease| lease.node != request.node).map(|lease| lease.subnets).collect();
    let subnets = claim::subnets(request, conf, former, &others)?;
    let lease = claim::lease(request, subnets, stored);
    if stored != Some(&lease) {
        layout.write_lease(&lease)?;
        let name = format!("{}.json", lease.node);
        if let Some((reads, read)) = reads.as_mut().zip(layout.read(&name)) {
            reads.insert(name, read);
        }
    }
    Ok((lease, reads))
}

fn cause(error: io::Error) -> Box<dyn Error + Send + Sync> {
    error.into()
}

#[cfg(test)]
mod tests;
