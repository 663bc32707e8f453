//! What etcd holds, as last told: keys become nodes here, and changes of keys become events.
//!
//! Pure. A node may have two keys for a moment, while its subnet changes; the one that was written last counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use network::model::{Lease, NodeName};

use super::record;
use super::wire::KeyValue;
use crate::store::StoreEvent;

/// The key of the network configuration, below the prefix.
pub(super) const CONFIG: &str = "config";
/// Where the nodes' keys are, below the prefix.
pub(super) const SUBNETS: &str = "subnets/";

/// A lease with the revision that wrote it.
type Entry = (i64, Arc<Lease>);

/// The keys below a prefix, as last told.
#[derive(Debug, Default)]
pub(super) struct View {
    prefix: String,
    config: Option<String>,
    /// By key, without the prefix.
    entries: BTreeMap<String, Entry>,
    /// The keys of each node, by the revision that wrote them.
    nodes: BTreeMap<NodeName, BTreeSet<(i64, String)>>,
    /// Keys that the last list lacked, still believed.
    missing: BTreeSet<String>,
    /// Keys that cannot be read, and the revision of which that was told.
    faulty: BTreeMap<String, i64>,
}

/// What to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// To the daemon.
    pub(super) events: Vec<StoreEvent>,
    /// To a person: keys that cannot be believed, and why.
    pub(super) faults: Vec<String>,
}

impl View {
    /// An empty one. `prefix` ends with `/`.
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// False where no network configuration is there: nothing else is to be believed then either.
    pub(super) fn is_whole(&self) -> bool {
        self.config.is_some()
    }

    /// True where the last list lacked keys that are still believed.
    pub(super) fn lacks_keys(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Takes a whole list. Without a network configuration in it nothing is taken: the network cannot have gone while its nodes live,
    /// so this is an etcd that has lost its data. Nodes that are not in the list are gone, or kept for now where `patient`: all but `own`, which can put its key back only when it hears that it is gone.
    pub(super) fn list(&mut self, kvs: &[KeyValue], patient: bool, own: Option<&NodeName>) -> Told {
        let mut told = Told::default();
        let config = kvs.iter().find(|kv| self.name(kv) == Some(CONFIG)).map(text);
        let former = std::mem::replace(&mut self.config, config);
        let Some(config) = self.config.clone() else { return told };
        if former.as_ref() != Some(&config) {
            told.events.push(StoreEvent::NetConf(config));
        }
        let before = std::mem::take(&mut self.entries);
        self.nodes.clear();
        self.missing.clear();
        for kv in kvs {
            let Some(key) = self.name(kv).map(str::to_owned) else { continue };
            let entry = match self.read(&key, kv, &mut told.faults) {
                Read::Lease(lease) => Some((kv.mod_revision, lease)),
                Read::Nothing => None,
                Read::Fault => before.get(&key).cloned(),
            };
            self.set(&key, entry);
        }
        let listed: BTreeSet<&str> = kvs.iter().filter_map(|kv| kv_name(&self.prefix, kv)).collect();
        let absent = before.into_iter().filter(|(key, _)| !listed.contains(key.as_str()));
        let absent: Vec<(String, Entry)> =
            absent.filter(|(_, (_, lease))| !self.nodes.contains_key(&lease.node)).collect();
        for (key, entry) in absent.into_iter().filter(|(_, (_, lease))| patient && Some(&lease.node) != own) {
            self.set(&key, Some(entry));
            self.missing.insert(key);
        }
        told.events.push(StoreEvent::Init);
        told.events.extend(self.nodes.keys().filter_map(|node| Some(StoreEvent::Lease(Arc::clone(self.lease(node)?)))));
        told.events.push(StoreEvent::InitDone);
        told
    }

    /// Lets go of what the last list lacked.
    pub(super) fn let_go(&mut self) -> Vec<StoreEvent> {
        let missing = std::mem::take(&mut self.missing);
        missing.iter().flat_map(|key| self.change(key, None)).collect()
    }

    /// Takes a key that was written.
    pub(super) fn written(&mut self, kv: &KeyValue) -> Told {
        let mut told = Told::default();
        let Some(key) = self.name(kv).map(str::to_owned) else { return told };
        if key == CONFIG {
            let config = text(kv);
            if self.config.as_ref() != Some(&config) {
                told.events.push(StoreEvent::NetConf(config.clone()));
                self.config = Some(config);
            }
            return told;
        }
        self.missing.remove(&key);
        told.events = match self.read(&key, kv, &mut told.faults) {
            Read::Lease(lease) => {
                let former: Vec<String> = self.missing_of(&lease.node);
                let mut events = self.change(&key, Some((kv.mod_revision, lease)));
                events.extend(former.iter().flat_map(|key| self.change(key, None)));
                events
            }
            Read::Nothing => self.change(&key, None),
            // What was there before still stands.
            Read::Fault => Vec::new(),
        };
        told
    }

    /// Takes a key that was deleted.
    pub(super) fn deleted(&mut self, kv: &KeyValue) -> Vec<StoreEvent> {
        let Some(key) = self.name(kv).map(str::to_owned) else { return Vec::new() };
        if key == CONFIG {
            self.config = None;
            return Vec::new();
        }
        self.missing.remove(&key);
        self.faulty.remove(&key);
        self.change(&key, None)
    }

    /// A node's lease.
    fn lease(&self, node: &NodeName) -> Option<&Arc<Lease>> {
        let (_, key) = self.nodes.get(node)?.last()?;
        self.entries.get(key).map(|(_, lease)| lease)
    }

    /// The keys of a node that were missing from the last list. It has another one now.
    fn missing_of(&mut self, node: &NodeName) -> Vec<String> {
        let keys = self.nodes.get(node).into_iter().flatten().map(|(_, key)| key.clone());
        let missing: Vec<String> = keys.filter(|key| self.missing.contains(key)).collect();
        self.missing.retain(|key| !missing.contains(key));
        missing
    }

    /// Puts or removes an entry, and tells what that means for the nodes that had or get the key.
    fn change(&mut self, key: &str, entry: Option<Entry>) -> Vec<StoreEvent> {
        let nodes = self.entries.get(key).into_iter().chain(&entry).map(|(_, lease)| lease.node.clone());
        let nodes: BTreeSet<NodeName> = nodes.collect();
        let before: BTreeMap<NodeName, Arc<Lease>> =
            nodes.iter().filter_map(|node| Some((node.clone(), self.lease(node)?.clone()))).collect();
        self.set(key, entry);
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for node in nodes {
            match (before.get(&node), self.lease(&node)) {
                (Some(_), None) => gone.push(StoreEvent::Removed(node)),
                (before, Some(now)) if before != Some(now) => there.push(StoreEvent::Lease(Arc::clone(now))),
                _ => {}
            }
        }
        // Where a key changes hands, its subnet must not seem to be two nodes'.
        gone.into_iter().chain(there).collect()
    }

    fn set(&mut self, key: &str, entry: Option<Entry>) {
        if let Some((revision, lease)) = self.entries.remove(key)
            && let Some(keys) = self.nodes.get_mut(&lease.node)
        {
            keys.remove(&(revision, key.to_owned()));
            if keys.is_empty() {
                self.nodes.remove(&lease.node);
            }
        }
        if let Some((revision, lease)) = entry {
            self.nodes.entry(lease.node.clone()).or_default().insert((revision, key.to_owned()));
            self.entries.insert(key.to_owned(), (revision, lease));
        }
    }

    fn read(&mut self, key: &str, kv: &KeyValue, faults: &mut Vec<String>) -> Read {
        let Some(name) = key.strip_prefix(SUBNETS) else { return Read::Nothing };
        let fault = match record::subnets(name) {
            None => "its name is no subnet's, such as 10.1.5.0-24".to_owned(),
            Some(subnets) => match record::parse(subnets, &kv.value) {
                Ok(record) => {
                    self.faulty.remove(key);
                    return record.lease.map_or(Read::Nothing, |lease| Read::Lease(Arc::new(lease)));
                }
                Err(error) => network::chain(&error),
            },
        };
        if self.faulty.insert(key.to_owned(), kv.mod_revision) != Some(kv.mod_revision) {
            faults.push(format!("etcd's key {}{key} is passed over: {fault}; write it anew or delete it", self.prefix));
        }
        Read::Fault
    }

    /// A key without the prefix; `None` for one that is not below it.
    fn name<'k>(&self, kv: &'k KeyValue) -> Option<&'k str> {
        kv_name(&self.prefix, kv)
    }
}

/// What a key is.
enum Read {
    Lease(Arc<Lease>),
    /// A reservation, or none of ours.
    Nothing,
    Fault,
}

fn kv_name<'k>(prefix: &str, kv: &'k KeyValue) -> Option<&'k str> {
    std::str::from_utf8(&kv.key).ok()?.strip_prefix(prefix)
}

fn text(kv: &KeyValue) -> String {
    String::from_utf8_lossy(&kv.value).into_owned()
}

#[cfg(test)]
mod tests;
