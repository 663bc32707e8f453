//! Taking, telling and giving back this node's subnet: transactions that only succeed where etcd is as it was read.

use std::net::IpAddr;

use dataplane::types::{PerFamily, Prefix};
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;

use super::client::CallError;
use super::keeper::TTL;
use super::record::{self, Record};
use super::view::SUBNETS;
use super::wire::{Compare, DeleteRangeRequest, KeyValue, PutRequest, RequestOp, TxnRequest};
use super::{EtcdStore, unwritable};
use crate::store::{LeaseRequest, StoreError, lease_builder};

/// How often the race for a subnet may be lost before that is told: each time another node has got one.
const RACES: usize = 20;

/// A subnet that somebody holds.
#[derive(Debug)]
pub(super) struct Holding {
    kv: KeyValue,
    subnets: PerFamily<Prefix>,
    /// What its value says; `None` where it makes no sense. It is held all the same.
    pub(super) record: Option<Record>,
}

impl Holding {
    /// Reads a key below `folder`; `None` for a foreign one.
    pub(super) fn read(folder: &str, kv: KeyValue) -> Option<Self> {
        let subnets = record::subnets(std::str::from_utf8(&kv.key).ok()?.strip_prefix(folder)?)?;
        let record = record::parse(subnets, &kv.value).ok();
        Some(Self { kv, subnets, record })
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.kv.key).into_owned()
    }

    fn is_of(&self, node: &NodeName) -> bool {
        self.record.as_ref().is_some_and(|record| record.node.as_ref() == Some(node))
    }

    /// True where the record is of nobody by name and of one of these addresses: flannel's way to know its own.
    fn is_nameless_at(&self, public: PerFamily<IpAddr>) -> bool {
        self.record.as_ref().is_some_and(|record| record.node.is_none()) && self.is_at(public)
    }

    fn is_at(&self, public: PerFamily<IpAddr>) -> bool {
        let Some(record) = &self.record else { return false };
        match (record.public.v4, public.v4) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => record.public.v6.is_some() && record.public.v6 == public.v6,
        }
    }

    /// True where the record is that of the node which asks. A node that has got another name knows it by what its pods use:
    /// an address alone does not prove it, since two nodes may have been given the same.
    fn is_own(&self, request: &LeaseRequest) -> bool {
        self.is_of(&request.node)
            || self.is_nameless_at(request.public)
            || self.is_at(request.public) && self.subnets == request.previous
    }

    fn lease(&self) -> Option<&Lease> {
        self.record.as_ref()?.lease.as_ref()
    }

    fn overlaps(&self, subnets: PerFamily<Prefix>) -> bool {
        self.subnets.iter().any(|(family, held)| subnets.get(family).is_some_and(|subnet| subnet.overlaps(*held)))
    }

    /// True as long as nobody has written the key since.
    fn unchanged(&self) -> Compare {
        Compare { target: 2, mod_revision: Some(self.kv.mod_revision), ..compare(self.kv.key.clone()) }
    }
}

/// Takes this node's subnets: those of its own record, else free ones.
pub(super) async fn acquire(store: &EtcdStore, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
    for _ in 0..RACES {
        let held = store.read_holdings().await?;
        let (own, others): (Vec<&Holding>, Vec<&Holding>) = split(&held, request);
        let stored = own.first();
        let others: Vec<_> = others.into_iter().map(|holding| holding.subnets).collect();
        let former = stored.map(|holding| holding.subnets).unwrap_or_default();
        let subnets = lease_builder::subnets(request, conf, former, &others)?;
        let lease = lease_builder::lease(request, subnets, stored.and_then(|holding| holding.lease()));
        let taken = match stored.filter(|holding| record::key(holding.subnets) == record::key(subnets)) {
            Some(stored) => keep(store, stored, &lease).await?,
            None => take(store, &lease, request).await?,
        };
        if !taken {
            tracing::debug!("another node has written etcd in between; trying again");
            continue;
        }
        for stale in own.iter().filter(|holding| record::key(holding.subnets) != record::key(subnets)) {
            if stale.kv.lease != 0 {
                delete(store, stale).await?;
            } else if stale.lease().is_some() {
                // A reservation stays one, without the word that the node takes part there.
                replace(store, stale, record::render_reservation(lease.public)).await?;
            }
        }
        return Ok(lease);
    }
    Err(StoreError::Write {
        object: format!("etcd's {}{SUBNETS}", store.client.options.prefix),
        advice: "many nodes take subnets at once; start netd again",
        source: format!("other nodes were quicker {RACES} times").into(),
    })
}

/// This node's records, the one that counts first, and everybody else's.
fn split<'h>(held: &'h [Holding], request: &LeaseRequest) -> (Vec<&'h Holding>, Vec<&'h Holding>) {
    let (mut own, others): (Vec<&Holding>, Vec<&Holding>) = held.iter().partition(|holding| holding.is_own(request));
    own.sort_by_key(|holding| (!holding.is_of(&request.node), -holding.kv.mod_revision));
    (own, others)
}

/// Goes on with the record that the node has, its etcd lease too. False where it has changed or ended meanwhile.
async fn keep(store: &EtcdStore, stored: &Holding, lease: &Lease) -> Result<bool, StoreError> {
    let value = record::render(lease);
    if stored.kv.value != value.as_bytes() && !replace(store, stored, value).await? {
        return Ok(false);
    }
    let id = stored.kv.lease;
    let ttl = match id {
        // A reservation: it lasts.
        0 => 0,
        id => store.client.keep_alive(id).await.map_err(|error| unwritable(&stored.name(), error))?,
    };
    if id != 0 && ttl <= 0 {
        return Ok(false);
    }
    store.keeper.keep(&store.client, id, ttl);
    Ok(true)
}

/// Makes a record where there is none. False where another node was quicker.
async fn take(store: &EtcdStore, lease: &Lease, request: &LeaseRequest) -> Result<bool, StoreError> {
    let folder = format!("{}{SUBNETS}", store.client.options.prefix);
    let name = format!("{folder}{}", record::key(lease.subnets));
    let failed = |error: CallError| unwritable(&name, error);
    let (id, ttl) = match store.keeper.lease() {
        Some(id) => (id, store.client.keep_alive(id).await.map_err(failed)?),
        None => (0, 0),
    };
    let id = if ttl > 0 { id } else { store.client.grant(TTL).await.map_err(failed)? };
    // It is kept also where the race is lost: for the next one.
    store.keeper.keep(&store.client, id, TTL);
    let value = record::render(lease).into_bytes();
    let put = PutRequest { key: name.clone().into_bytes(), value, lease: id, ignore_lease: false };
    let absent = Compare { target: 1, create_revision: Some(0), ..compare(put.key.clone()) };
    let create = TxnRequest { compare: vec![absent], success: vec![RequestOp { put: Some(put), delete: None }] };
    if !store.client.txn(create).await.map_err(failed)?.succeeded {
        return Ok(false);
    }
    // Keys of two families may differ and still overlap: whoever was there first has it.
    let held = store.read_holdings().await?;
    let Some(own) = held.iter().find(|holding| holding.name() == name) else { return Ok(false) };
    let first = |other: &&Holding| other.kv.create_revision < own.kv.create_revision;
    let lost = held.iter().filter(first).any(|other| other.overlaps(own.subnets) && !other.is_own(request));
    if lost {
        delete(store, own).await?;
    }
    Ok(!lost)
}

/// Writes what the lease says now.
pub(super) async fn publish(store: &EtcdStore, lease: &Lease) -> Result<(), StoreError> {
    let name = format!("{}{SUBNETS}{}", store.client.options.prefix, record::key(lease.subnets));
    for _ in 0..RACES {
        let stored = store.read_holding(&name).await?;
        let is_own = |holding: &Holding| holding.is_of(&lease.node) || holding.is_nameless_at(lease.public);
        let Some(stored) = stored.filter(is_own) else {
            return Err(StoreError::Write {
                object: format!("etcd's {name}"),
                advice: "it is put back when it is gone; where another node has it, restart netd to take another subnet",
                source: "it is not this node's any more".into(),
            });
        };
        let value = record::render(lease);
        if stored.kv.value == value.as_bytes() || replace(store, &stored, value).await? {
            return Ok(());
        }
    }
    Err(StoreError::Write {
        object: format!("etcd's {name}"),
        advice: "see who else writes this key",
        source: format!("it changed {RACES} times while it was written").into(),
    })
}

/// Gives back what the node holds. A reservation stays the node's, without the word that it takes part.
pub(super) async fn release(store: &EtcdStore, node: &NodeName) -> Result<(), StoreError> {
    let held = store.read_holdings().await?;
    for holding in held.iter().filter(|holding| holding.is_of(node)) {
        let public = holding.record.as_ref().map(|record| record.public).unwrap_or_default();
        if holding.kv.lease == 0 {
            replace(store, holding, record::render_reservation(public)).await?;
            continue;
        }
        delete(store, holding).await?;
        // It has nothing left to end. That it may not be there any more is no harm.
        let _ = store.client.revoke(holding.kv.lease).await;
    }
    store.keeper.keep(&store.client, 0, 0);
    Ok(())
}

/// Writes another value; the key keeps its lease, or goes on without. False where it has changed.
async fn replace(store: &EtcdStore, holding: &Holding, value: String) -> Result<bool, StoreError> {
    let put = PutRequest { key: holding.kv.key.clone(), value: value.into_bytes(), lease: 0, ignore_lease: true };
    change(store, holding, RequestOp { put: Some(put), delete: None }).await
}

/// Deletes a key, unless it has changed.
async fn delete(store: &EtcdStore, holding: &Holding) -> Result<bool, StoreError> {
    let delete = DeleteRangeRequest { key: holding.kv.key.clone() };
    change(store, holding, RequestOp { put: None, delete: Some(delete) }).await
}

async fn change(store: &EtcdStore, holding: &Holding, operation: RequestOp) -> Result<bool, StoreError> {
    let request = TxnRequest { compare: vec![holding.unchanged()], success: vec![operation] };
    let answer = store.client.txn(request).await.map_err(|error| unwritable(&holding.name(), error))?;
    Ok(answer.succeeded)
}

/// Equal, to what the caller fills in.
fn compare(key: Vec<u8>) -> Compare {
    Compare { result: 0, target: 0, key, create_revision: None, mod_revision: None }
}
