//! The store `dir`: a directory with `net-conf.json` and one file for each node, `nodes/NAME.json`. People can read and write the files.
//!
//! Several daemons use the directory at once, on one machine or over a shared mount. The store reports what the files contain; the
//! model decides which leases are valid.

mod files;
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

use self::files::{Layout, file_name};
use self::lease_file::LeaseFiles;
use self::watcher::FirstRead;
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
    /// What the allocation read, for the watch: thousands of files are read once.
    first: Mutex<Option<FirstRead>>,
}

impl DirStore {
    /// The store in `dir`. `net_conf` is the file of the network configuration where that is not `net-conf.json` in `dir`. `poll` is
    /// the poll interval ([`POLL`]).
    pub fn new(dir: PathBuf, net_conf: Option<PathBuf>, poll: Duration) -> Self {
        let (layout, lock_timeout) = (Layout::new(dir, net_conf), Duration::from_secs(15));
        Self { layout, poll, lock_timeout, own: OnceLock::new(), first: Mutex::default() }
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
        for (name, error) in files.iter().filter_map(|(name, file)| Some((name, file.as_ref().err()?))) {
            if !is_watched {
                lease_file::log_skipped(name, error);
            }
        }
        Ok(files.into_values().filter_map(Result::ok).collect())
    }

    pub(super) async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.run(Layout::make_dirs).await?;
        // The watches begin before the files are read: changes from then on are notified.
        let first = self.own.set(request.node.clone()).is_ok().then(|| FirstRead::new(&self.layout));
        let lock = lock::take(&self.layout.lock_file(), &format!("node {}", request.node), self.lock_timeout).await?;
        let (request, conf) = (request.clone(), conf.clone());
        let acquired = self.run(move |layout| acquire(layout, &request, &conf)).await;
        drop(lock);
        let (lease, files) = acquired?;
        if let Some(mut first) = first {
            first.files = files;
            *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
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
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first = first.unwrap_or_else(|| FirstRead::new(&self.layout));
        watcher::start(self.layout.clone(), self.poll, self.own.get(), first)
    }
}

/// Allocates the node's subnets and writes its lease. Gives the files too, as they are then, where the allocation needed all of them.
/// The caller holds the lock.
fn acquire(layout: &Layout, request: &LeaseRequest, conf: &NetConf) -> Result<(Lease, Option<LeaseFiles>), StoreError> {
    layout.remove_partial_lease(&request.node);
    let named = layout.read_lease(&request.node);
    let is_sufficient = named.as_ref().is_some_and(|lease| lease_builder::is_sufficient(conf, lease.subnets));
    let mut files = if is_sufficient { None } else { Some(layout.read_all()?) };
    let leases = || files.iter().flatten().filter_map(|(_, file)| file.as_deref().ok());
    // The host had another name: its record has its address, and the subnets that its pods use.
    let renamed = leases().filter(|_| named.is_none()).find(|lease| request.was_given(lease));
    let stored = named.as_ref().or(renamed);
    let former = stored.map(|lease| lease.subnets).unwrap_or_default();
    let is_other = |lease: &&Lease| lease.node != request.node && Some(*lease) != renamed;
    let others: Vec<_> = leases().filter(is_other).map(|lease| lease.subnets).collect();
    let subnets = lease_builder::subnets(request, conf, former, &others)?;
    let lease = lease_builder::lease(request, subnets, stored);
    let renamed = renamed.map(|lease| lease.node.clone());
    if stored != Some(&lease) {
        layout.write_lease(&lease)?;
    }
    if let Some(renamed) = &renamed {
        layout.remove_lease(renamed)?;
    }
    if let Some(files) = &mut files {
        files.extend([(file_name(&lease.node), Ok(lease.clone().into()))]);
        files.retain(|name, _| renamed.as_ref().is_none_or(|renamed| *name != file_name(renamed)));
    }
    Ok((lease, files))
}

#[cfg(test)]
mod tests;
