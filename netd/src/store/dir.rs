//! The store `dir`: a directory with `net-conf.json` and one file for each node, `nodes/NAME.json`. People can read and write the files.
//!
//! Several daemons use the directory at once, on one machine or over a shared mount. The store reports what the files contain; the
//! model decides which leases are valid.

mod file_batch;
mod files;
mod fingerprint;
mod lease_file;
mod watcher;

use std::future;
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::mpsc;
use tokio::task;

use self::files::Layout;
use self::lease_file::{LeaseFile, LeaseFiles};
use self::watcher::{Notifications, PrimedWatch};
use super::{LeaseRequest, StoreError, StoreEvent, lease_builder};
use crate::lock;

/// How often the files are polled, for mounts on which the kernel sends no notifications.
pub const POLL: Duration = Duration::from_secs(10);

/// A store in a directory.
#[derive(Debug)]
pub struct DirStore {
    layout: Layout,
    poll: Duration,
    lock_timeout: Duration,
    /// The node that allocated its subnets through this store.
    own: OnceLock<NodeName>,
    /// The watch that began with that allocation; the files are not read twice.
    primed: Mutex<Option<PrimedWatch>>,
}

impl DirStore {
    /// The store in `dir`. `net_conf` is the file of the network configuration where that is not `net-conf.json` in `dir`. `poll` is
    /// the poll interval ([`POLL`]).
    pub fn new(dir: PathBuf, net_conf: Option<PathBuf>, poll: Duration) -> Self {
        let (layout, lock_timeout) = (Layout::new(dir, net_conf), Duration::from_secs(15));
        Self { layout, poll, lock_timeout, own: OnceLock::new(), primed: Mutex::default() }
    }

    /// Works on the files, outside of the runtime's own threads.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Layout) -> T + Send + 'static) -> T {
        let layout = self.layout.clone();
        match task::spawn_blocking(move || work(&layout)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down, and this task ends with it.
            Err(_) => future::pending().await,
        }
    }

    pub(super) async fn net_conf(&self) -> Result<String, StoreError> {
        self.run(Layout::read_net_conf).await
    }

    pub(super) async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        let node = node.clone();
        Ok(self.run(move |layout| layout.read_lease(&node)).await)
    }

    pub(super) async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let files = self.run(Layout::read_all).await?;
        // The watch of a daemon logs each file that it skips, once.
        let is_watched = self.own.get().is_some();
        let lease = |(name, file): (String, LeaseFile)| match file.lease {
            Err(error) if !is_watched => {
                lease_file::log_skipped(&name, &error);
                None
            }
            lease => lease.ok(),
        };
        Ok(files.into_iter().filter_map(lease).collect())
    }

    pub(super) async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.run(Layout::make_dirs).await?;
        // The watch must begin before the files are read: changes during the read are notified then.
        let notifications = self.own.set(request.node.clone()).is_ok().then(|| Notifications::new(&self.layout));
        let lock = lock::take(&self.layout.lock_file(), &format!("node {}", request.node), self.lock_timeout).await?;
        let (request, conf) = (request.clone(), conf.clone());
        let acquired = self.run(move |layout| acquire(layout, &request, &conf)).await;
        drop(lock);
        let (lease, files) = acquired?;
        if let Some(notifications) = notifications {
            let primed = PrimedWatch { notifications, files };
            *self.primed.lock().unwrap_or_else(PoisonError::into_inner) = Some(primed);
        }
        Ok(lease)
    }

    pub(super) async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.run(move |layout| layout.write_lease(&lease)).await
    }

    pub(super) async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        let node = node.clone();
        self.run(move |layout| layout.remove_lease(&node)).await
    }

    pub(super) fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        let primed = self.primed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let primed =
            primed.unwrap_or_else(|| PrimedWatch { notifications: Notifications::new(&self.layout), files: None });
        watcher::start(self.layout.clone(), self.poll, self.own.get(), primed)
    }
}

/// Allocates the node's subnets and writes its lease. Where every file had to be read for that, the files are returned too, including
/// the new one. The caller holds the lock.
fn acquire(layout: &Layout, request: &LeaseRequest, conf: &NetConf) -> Result<(Lease, Option<LeaseFiles>), StoreError> {
    layout.remove_partial_lease(&request.node);
    let named = layout.read_lease(&request.node);
    let mut files = if named.as_ref().is_some_and(|lease| lease_builder::is_sufficient(conf, lease.subnets)) {
        None
    } else {
        Some(layout.read_all()?)
    };
    // The host had another name: its record has its address, and the subnets that its pods use.
    let leases = files.iter().flatten().filter_map(|(_, file)| file.lease.as_ref().ok());
    let renamed =
        leases.filter(|_| named.is_none()).find(|lease| request.was_given(lease)).map(|lease| (**lease).clone());
    if let (Some(renamed), Some(files)) = (&renamed, &mut files) {
        files.remove(&format!("{}.json", renamed.node));
    }
    let stored = named.as_ref().or(renamed.as_ref());
    let former = stored.map(|lease| lease.subnets).unwrap_or_default();
    let leases = files.iter().flatten().filter_map(|(_, file)| file.lease.as_ref().ok());
    let others: Vec<_> = leases.filter(|lease| lease.node != request.node).map(|lease| lease.subnets).collect();
    let subnets = lease_builder::subnets(request, conf, former, &others)?;
    let lease = lease_builder::lease(request, subnets, stored);
    if stored != Some(&lease) {
        layout.write_lease(&lease)?;
        let name = format!("{}.json", lease.node);
        if let Some((files, file)) = files.as_mut().zip(layout.read(&name)) {
            files.insert(name, file);
        }
    }
    if let Some(renamed) = &renamed {
        layout.remove_lease(&renamed.node)?;
    }
    Ok((lease, files))
}

#[cfg(test)]
mod tests;
