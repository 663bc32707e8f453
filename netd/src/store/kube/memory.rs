//! What was last known of the network, in a file: with it a node goes on where the API server is away while netd starts.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// What comes together is written together; and the file is written no more often than that.
const SOON: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_mins(1);

/// What was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    /// This node.
    pub(super) node: NodeName,
    /// What its owner had put in place of the flags for its public addresses.
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
    v4: Option<Ipv4Addr>,
    #[serde(rename = "NodePublicIPv6")]
    v6: Option<Ipv6Addr>,
    net_conf: String,
    leases: L,
}

/// Written one after the other: thousands of them are not held as text twice.
struct Leases<'m>(&'m BTreeMap<NodeName, Arc<Lease>>);

impl Serialize for Leases<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.values().map(|lease| (lease.node.as_str(), record::of(lease))))
    }
}

impl Memory {
    /// As text.
    pub(super) fn render(&self) -> String {
        let v4 = self.public.v4.and_then(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None });
        let v6 = self.public.v6.and_then(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None });
        let file =
            File { node: self.node.to_string(), v4, v6, net_conf: self.net_conf.clone(), leases: Leases(&self.leases) };
        // Neither maps with other keys than text nor failing fields are in it.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Reads it. A lease that cannot be read is left out.
    pub(super) fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let file: File<BTreeMap<String, &RawValue>> = serde_json::from_str(text)?;
        let leases = file.leases.into_iter().filter_map(|(name, lease)| {
            let name: NodeName = name.parse().ok()?;
            let lease = record::parse(&name, lease.get()).ok()?;
            Some((name, lease.into()))
        });
        Ok(Self {
            node: file.node.parse()?,
            public: PerFamily { v4: file.v4.map(IpAddr::from), v6: file.v6.map(IpAddr::from) },
            net_conf: file.net_conf,
            leases: leases.collect(),
        })
    }

    /// What the file of an earlier run holds; none where it cannot be used, which is told.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let text = match std::fs::read_to_string(path) {
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

/// Keeps the file as what is known changes, until nobody follows any more.
pub(super) async fn keep(shared: Arc<Shared>) {
    let path = shared.options.memory.clone();
    whole_file::sweep(&path);
    let (mut written, mut complaint) = (None, None);
    loop {
        shared.changed.notified().await;
        time::sleep(SOON).await;
        let Some(memory) = shared.memory() else { continue };
        let path = path.clone();
        let done = task::spawn_blocking(move || {
            let text = memory.render();
            let digest = fnv(text.as_bytes());
            if written != Some(digest) {
                path.parent().map_or(Ok(()), whole_file::make_folder)?;
                whole_file::write(&path, text.as_bytes())?;
            }
            io::Result::Ok(digest)
        });
        let Ok(done) = done.await else { return };
        let fault = done.as_ref().err().map(ToString::to_string);
        if fault != complaint
            && let Some(fault) = &fault
        {
            let path = shared.options.memory.display();
            tracing::warn!("{path} cannot be written, so netd cannot start while the API server is away: {fault}");
        }
        (written, complaint) = (done.ok(), fault);
        time::sleep(SELDOM).await;
    }
}

#[cfg(test)]
mod tests;
