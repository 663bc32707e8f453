//! The keys of etcd as last reported. Converts lists and changes of keys into events about nodes.
//!
//! Pure. While a node changes its subnet it may have two keys; the key that was written last is valid. A later key with
//! another address than the node's first one is somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use network::model::{Lease, NodeName};

use super::key_value::KeyValue;
use super::record::{self, CONFIG, SUBNETS};
use crate::store::StoreEvent;

/// A lease, and the revisions that created its key and wrote it last.
#[derive(Debug, Clone)]
struct Entry {
    created: i64,
    written: i64,
    lease: Arc<Lease>,
}

impl Entry {
    fn new(kv: &KeyValue, lease: Arc<Lease>) -> Self {
        Self { created: kv.create_revision, written: kv.mod_revision, lease }
    }
}

fn shares_address(one: &Lease, other: &Lease) -> bool {
    one.public.iter().any(|(family, address)| other.public.get(family) == Some(address))
}

/// The keys below a prefix. Keys are named without the prefix.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    prefix: String,
    /// The network configuration. Without it the other keys do not count.
    pub(super) net_conf: Option<String>,
    entries: BTreeMap<String, Entry>,
    /// The keys of each node, ordered by the revision that wrote them.
    nodes: BTreeMap<NodeName, BTreeSet<(i64, String)>>,
    /// Keys that the last list lacked and that still count.
    pub(super) missing: BTreeSet<String>,
    /// Invalid keys, and the revision for which a warning was given.
    invalid: BTreeMap<String, i64>,
    /// Keys that name a node which has an older key with another address.
    foreign: BTreeSet<String>,
    /// Keys that became invalid, and why; those without a reason are not any more.
    pub(super) faults: Vec<(String, Option<String>)>,
}

impl KeyCache {
    /// An empty cache. `prefix` ends with `/`.
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// Takes a complete list. A list without a network configuration is ignored: a network does not disappear while its nodes exist,
    /// so this etcd has lost its data. Nodes that are not in the list are gone. With `keep_missing` they still count until
    /// [`Self::expire_missing`], except `own`, which can recreate its key only after an event that reports the loss.
    pub(super) fn list(&mut self, kvs: &[KeyValue], keep_missing: bool, own: Option<&NodeName>) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        let net_conf = kvs.iter().find(|kv| self.name(&kv.key) == Some(CONFIG)).map(KeyValue::text);
        let former = std::mem::replace(&mut self.net_conf, net_conf);
        let Some(net_conf) = self.net_conf.clone() else { return events };
        if former.as_ref() != Some(&net_conf) {
            events.push(StoreEvent::NetConf(net_conf));
        }
        let before = std::mem::take(&mut self.entries);
        let listed: BTreeSet<&str> = kvs.iter().filter_map(|kv| self.name(&kv.key)).collect();
        let gone: Vec<String> =
            self.invalid.keys().chain(&self.foreign).filter(|key| !listed.contains(key.as_str())).cloned().collect();
        for key in gone {
            self.is_well(&key);
        }
        self.nodes.clear();
        self.missing.clear();
        for kv in kvs {
            let Some(key) = self.name(&kv.key).map(str::to_owned) else { continue };
            let entry = match self.parse(&key, kv) {
                Content::Lease(lease) => Some(Entry::new(kv, lease)),
                Content::NoLease => None,
                Content::Invalid => before.get(&key).cloned(),
            };
            self.set(&key, entry);
        }
        if keep_missing {
            let is_missing = |key: &str, node: &NodeName| {
                !listed.contains(key) && !self.nodes.contains_key(node) && Some(node) != own
            };
            let missing: Vec<_> =
                before.into_iter().filter(|(key, entry)| is_missing(key, &entry.lease.node)).collect();
            for (key, entry) in missing {
                self.set(&key, Some(entry));
                self.missing.insert(key);
            }
        }
        let nodes: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for node in &nodes {
            self.note_foreign(node);
        }
        events.extend(StoreEvent::list(self.nodes.keys().filter_map(|node| self.lease(node)).cloned()));
        events
    }

    /// Removes the keys that the last list lacked.
    pub(super) fn expire_missing(&mut self) -> Vec<StoreEvent> {
        let missing = std::mem::take(&mut self.missing);
        missing.iter().flat_map(|key| self.change(key, None)).collect()
    }

    /// The lease of each node among all keys, without a network configuration.
    pub(super) fn leases(prefix: String, kvs: &[KeyValue]) -> Vec<Arc<Lease>> {
        let mut cache = Self::new(prefix);
        for kv in kvs {
            let Some(key) = cache.name(&kv.key).map(str::to_owned) else { continue };
            if let Content::Lease(lease) = cache.parse(&key, kv) {
                cache.set(&key, Some(Entry::new(kv, lease)));
            }
        }
        cache.nodes.keys().filter_map(|node| cache.lease(node)).cloned().collect()
    }

    /// Takes a key that was written.
    pub(super) fn put(&mut self, kv: &KeyValue) -> Vec<StoreEvent> {
        let Some(key) = self.name(&kv.key).map(str::to_owned) else { return Vec::new() };
        if key == CONFIG {
            let net_conf = kv.text();
            if self.net_conf.as_ref() == Some(&net_conf) {
                return Vec::new();
            }
            self.net_conf = Some(net_conf.clone());
            return vec![StoreEvent::NetConf(net_conf)];
        }
        self.missing.remove(&key);
        match self.parse(&key, kv) {
            Content::Lease(lease) => {
                let former = self.take_missing_of(&lease.node);
                let mut events = self.change(&key, Some(Entry::new(kv, lease)));
                events.extend(former.iter().flat_map(|key| self.change(key, None)));
                events
            }
            Content::NoLease => self.change(&key, None),
            // The last valid content still counts.
            Content::Invalid => Vec::new(),
        }
    }

    /// Takes a key that was deleted. `key` has the prefix.
    pub(super) fn delete(&mut self, key: &str) -> Vec<StoreEvent> {
        let Some(key) = self.name(key).map(str::to_owned) else { return Vec::new() };
        if key == CONFIG {
            self.net_conf = None;
            return Vec::new();
        }
        self.missing.remove(&key);
        self.is_well(&key);
        self.change(&key, None)
    }

    /// A node's lease: that of its oldest key, or of a later one with the same address.
    fn lease(&self, node: &NodeName) -> Option<&Arc<Lease>> {
        let entries = || self.nodes.get(node).into_iter().flatten().filter_map(|(_, key)| self.entries.get(key));
        let first = entries().min_by_key(|entry| entry.created)?;
        entries().rfind(|entry| shares_address(&entry.lease, &first.lease)).map(|entry| &entry.lease)
    }

    /// Finds the keys that name the node and are not its own.
    fn note_foreign(&mut self, node: &NodeName) {
        let Some(lease) = self.lease(node).cloned() else { return };
        let keys = self.nodes.get(node).into_iter().flatten().map(|(_, key)| key);
        let (own, foreign): (Vec<&String>, Vec<&String>) =
            keys.partition(|key| self.entries.get(*key).is_some_and(|entry| shares_address(&entry.lease, &lease)));
        for key in own {
            if self.foreign.remove(key) {
                self.faults.push((key.clone(), None));
            }
        }
        for key in foreign {
            if self.foreign.insert(key.clone()) {
                let subnets: Vec<_> = lease.subnets.iter().map(|(_, subnet)| subnet.to_string()).collect();
                let fault = format!("it names node {node}, which has {} and another address", subnets.join(" "));
                self.faults.push((key.clone(), Some(fault)));
            }
        }
    }

    /// Nothing is wrong with a key any more.
    fn is_well(&mut self, key: &str) {
        if self.invalid.remove(key).is_some() | self.foreign.remove(key) {
            self.faults.push((key.to_owned(), None));
        }
    }

    /// Takes the missing keys of a node, which has written another key now.
    fn take_missing_of(&mut self, node: &NodeName) -> Vec<String> {
        let keys = self.nodes.get(node).into_iter().flatten().map(|(_, key)| key.clone());
        let missing: Vec<String> = keys.filter(|key| self.missing.contains(key)).collect();
        self.missing.retain(|key| !missing.contains(key));
        missing
    }

    /// Sets or removes an entry; gives the events for the nodes that had the key or have it now.
    fn change(&mut self, key: &str, entry: Option<Entry>) -> Vec<StoreEvent> {
        let nodes = self.entries.get(key).into_iter().chain(&entry).map(|entry| entry.lease.node.clone());
        let nodes: BTreeSet<NodeName> = nodes.collect();
        let before: BTreeMap<NodeName, Arc<Lease>> =
            nodes.iter().filter_map(|node| Some((node.clone(), self.lease(node)?.clone()))).collect();
        self.set(key, entry);
        for node in &nodes {
            self.note_foreign(node);
        }
        let (mut removed, mut written) = (Vec::new(), Vec::new());
        for node in nodes {
            match (before.get(&node), self.lease(&node)) {
                (Some(_), None) => removed.push(StoreEvent::Removed(node)),
                (before, Some(now)) if before != Some(now) => written.push(StoreEvent::Lease(Arc::clone(now))),
                _ => {}
            }
        }
        // Removals first: where a key changes its node, two nodes must not seem to have the same subnet.
        removed.into_iter().chain(written).collect()
    }

    fn set(&mut self, key: &str, entry: Option<Entry>) {
        if let Some(former) = self.entries.remove(key)
            && let Some(keys) = self.nodes.get_mut(&former.lease.node)
        {
            keys.remove(&(former.written, key.to_owned()));
            if keys.is_empty() {
                self.nodes.remove(&former.lease.node);
            }
        }
        if let Some(entry) = entry {
            self.nodes.entry(entry.lease.node.clone()).or_default().insert((entry.written, key.to_owned()));
            self.entries.insert(key.to_owned(), entry);
        }
    }

    fn parse(&mut self, key: &str, kv: &KeyValue) -> Content {
        let Some(name) = key.strip_prefix(SUBNETS) else { return Content::NoLease };
        let fault = match record::subnets(name) {
            None => "its name is no subnet's, such as 10.1.5.0-24".to_owned(),
            Some(subnets) => match record::parse(subnets, &kv.value) {
                Ok(record) => {
                    if self.invalid.remove(key).is_some() {
                        self.faults.push((key.to_owned(), None));
                    }
                    return record.lease.map_or(Content::NoLease, |lease| Content::Lease(Arc::new(lease)));
                }
                Err(error) => network::chain(&error),
            },
        };
        if self.invalid.insert(key.to_owned(), kv.mod_revision) != Some(kv.mod_revision) {
            self.faults.push((key.to_owned(), Some(fault)));
        }
        Content::Invalid
    }

    /// A key without the prefix; `None` for a key without that prefix.
    fn name<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.prefix)
    }
}

/// The content of a key.
enum Content {
    Lease(Arc<Lease>),
    /// A reservation, or a key that is no node's.
    NoLease,
    Invalid,
}

#[cfg(test)]
mod tests;
