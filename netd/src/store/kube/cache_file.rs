//! The cache file: the network as last known. With it netd starts where the API server is away.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::PerFamily;
use network::hash::fnv;
use network::model::{Lease, NodeName};
use network::record;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::{task, time};

use super::Shared;
use crate::whole_file;

/// Changes that come within this time are written together.
const BATCH: Duration = Duration::from_secs(2);
/// So many bytes a second are written at most, on average: the file of a large network is not written for each of its changes.
const RATE: usize = 16 * 1024;
/// The longest time between two writes.
const INTERVAL: Duration = Duration::from_mins(1);
/// The largest file: thousands of leases.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The contents of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedNetwork {
    /// This node.
    pub(super) node: NodeName,
    /// The public addresses that the Node's owner has set in place of those of the flags.
    pub(super) public: PerFamily<IpAddr>,
    /// The network configuration.
    pub(super) net_conf: String,
    /// Every node's lease, this node's too.
    pub(super) leases: BTreeMap<NodeName, Arc<Lease>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File<L> {
    node: String,
    #[serde(rename = "NodePublicIP")]
    v4: Option<IpAddr>,
    #[serde(rename = "NodePublicIPv6")]
    v6: Option<IpAddr>,
    net_conf: String,
    leases: L,
}

/// Serialized one by one, so that thousands of leases are not held as text twice.
struct Leases<'n>(&'n BTreeMap<NodeName, Arc<Lease>>);

impl Serialize for Leases<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.values().map(|lease| (lease.node.as_str(), record::of(lease))))
    }
}

impl CachedNetwork {
    /// The text of the file.
    pub(super) fn render(&self) -> String {
        let (node, PerFamily { v4, v6 }) = (self.node.to_string(), self.public);
        let file = File { node, v4, v6, net_conf: self.net_conf.clone(), leases: Leases(&self.leases) };
        // Neither a map whose keys are no text nor a field that fails is in it.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Parses the text. A lease that cannot be parsed is left out.
    pub(super) fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let file: File<BTreeMap<String, &RawValue>> = serde_json::from_str(text)?;
        let leases = file.leases.into_iter().filter_map(|(name, lease)| {
            let name: NodeName = name.parse().ok()?;
            let lease = record::parse(&name, lease.get()).ok()?;
            Some((name, lease.into()))
        });
        Ok(Self {
            node: file.node.parse()?,
            public: PerFamily { v4: file.v4.filter(IpAddr::is_ipv4), v6: file.v6.filter(IpAddr::is_ipv6) },
            net_conf: file.net_conf,
            leases: leases.collect(),
        })
    }

    /// Reads the file of an earlier run. `None` where it is missing or cannot be used; the latter is logged.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let text = match whole_file::read_up_to(path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("{} cannot be read: {error}", path.display());
                return None;
            }
        };
        Self::parse(&text).inspect_err(|error| tracing::warn!("{} is not used: {error}", path.display())).ok()
    }
}

/// Writes the file as the network changes, until the task is aborted.
pub(super) async fn keep(shared: Arc<Shared>) {
    let path = shared.config.cache_file.clone();
    whole_file::sweep(&path);
    let (mut written, mut complaint) = (None, None);
    let mut view = shared.view.subscribe();
    // What is known already may not be in the file.
    view.mark_changed();
    while view.changed().await.is_ok() {
        time::sleep(BATCH).await;
        let Some(network) = shared.network() else { continue };
        let path = path.clone();
        let done = task::spawn_blocking(move || {
            let text = network.render();
            let digest = fnv(text.as_bytes());
            if written != Some(digest) {
                whole_file::install(&path, text.as_bytes(), whole_file::FILE)?;
            }
            io::Result::Ok((digest, pause(text.len())))
        });
        let Ok(done) = done.await else { return };
        let fault = done.as_ref().err().map(ToString::to_string);
        if fault != complaint
            && let Some(fault) = &fault
        {
            let path = shared.config.cache_file.display();
            tracing::warn!("{path} cannot be written, so netd cannot start while the API server is away: {fault}");
        }
        let (digest, pause) = done.ok().unzip();
        (written, complaint) = (digest, fault);
        time::sleep(pause.unwrap_or(INTERVAL)).await;
    }
}

/// How long no other file is written after one of so many bytes.
fn pause(bytes: usize) -> Duration {
    INTERVAL.min(Duration::from_secs((bytes / RATE) as u64))
}

#[cfg(test)]
mod tests;
