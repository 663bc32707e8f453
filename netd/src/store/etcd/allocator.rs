//! Allocates, publishes and releases this node's subnets. Each write is a transaction that fails where the key has changed since it
//! was read.

use dataplane::types::PerFamily;
use network::chain;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;

use super::EtcdStore;
use super::client::CallError;
use super::lease_keep_alive::TTL;
use super::record;
use super::subnet_key::SubnetKey;
use crate::store::{LeaseRequest, StoreError, lease_builder};

/// How often a write may lose a race against other nodes before it fails. Each lost race gave another node its subnet.
const RACES: usize = 20;

impl EtcdStore {
    /// Every key that holds subnets.
    pub(super) async fn subnet_keys(&self) -> Result<Vec<SubnetKey>, StoreError> {
        let prefix = self.client.config.subnets_prefix();
        let (kvs, _) = self.client.list(&prefix).await.map_err(|error| error.reading(&prefix))?;
        Ok(kvs.into_iter().filter_map(|kv| SubnetKey::parse(&prefix, kv)).collect())
    }

    fn key_of(&self, lease: &Lease) -> String {
        self.client.config.subnets_prefix() + &record::key(lease.subnets)
    }

    /// Allocates this node's subnets: those of its own record, else free ones.
    pub(super) async fn acquire_now(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        for _ in 0..RACES {
            let keys = self.subnet_keys().await?;
            let (mut own, others): (Vec<&SubnetKey>, Vec<_>) = keys.iter().partition(|key| key.is_own(request));
            // The valid one first.
            own.sort_by_key(|key| (!key.is_of(&request.node), -key.kv.mod_revision));
            let stored = own.first();
            let others: Vec<_> = others.into_iter().map(|key| key.subnets).collect();
            let former = stored.map(|key| key.subnets).unwrap_or_default();
            let subnets = lease_builder::subnets(request, conf, former, &others)?;
            let lease = lease_builder::lease(request, subnets, stored.and_then(|key| key.lease()));
            let is_current = |key: &SubnetKey| record::key(key.subnets) == record::key(subnets);
            let acquired = match stored.filter(|key| is_current(key)) {
                Some(stored) => self.renew(stored, &lease).await?,
                None => self.create(&lease, request).await?,
            };
            if !acquired {
                tracing::debug!("another node has written etcd in between; trying again");
                continue;
            }
            for stale in own.iter().filter(|key| !is_current(key)) {
                if stale.kv.lease != 0 {
                    self.client.delete(&stale.kv).await?;
                } else if stale.lease().is_some() {
                    // A reservation stays reserved; only the node's lease goes.
                    self.client.replace(&stale.kv, &record::render_reservation(lease.public)).await?;
                }
            }
            return Ok(lease);
        }
        let (object, advice) =
            (self.client.config.subnets_prefix(), "many nodes take subnets at once; start netd again");
        Err(StoreError::write(format!("etcd's {object}"), advice, format!("other nodes were quicker {RACES} times")))
    }

    /// Continues with the node's own key and its etcd lease. False where the key has changed or the lease has expired meanwhile.
    async fn renew(&self, stored: &SubnetKey, lease: &Lease) -> Result<bool, StoreError> {
        let value = record::render(lease);
        if stored.kv.value != value.as_bytes() && !self.client.replace(&stored.kv, &value).await? {
            return Ok(false);
        }
        let id = stored.kv.lease;
        if id == 0 {
            // A reservation does not expire.
            self.keep_alive.stop();
            return Ok(true);
        }
        let ttl = self.client.keep_alive(id).await.map_err(|error| error.writing(&stored.kv.key))?;
        if ttl > 0 {
            self.keep_alive.start(&self.client, id, ttl);
        }
        Ok(ttl > 0)
    }

    /// Creates the node's key. False where another node was quicker.
    async fn create(&self, lease: &Lease, request: &LeaseRequest) -> Result<bool, StoreError> {
        let name = self.key_of(lease);
        let failed = |error: CallError| error.writing(&name);
        let (id, ttl) = match self.keep_alive.lease() {
            Some(id) => (id, self.client.keep_alive(id).await.map_err(failed)?),
            None => (0, 0),
        };
        let id = if ttl > 0 { id } else { self.client.grant(TTL).await.map_err(failed)? };
        // The next try uses the same lease, so it is kept alive also where this race is lost.
        self.keep_alive.start(&self.client, id, TTL);
        if !self.client.create(&name, &record::render(lease), id).await? {
            return Ok(false);
        }
        // Subnets of different keys may overlap in one of two families. The key that was created first wins.
        let keys = self.subnet_keys().await?;
        let Some(own) = keys.iter().find(|key| key.kv.key == name) else { return Ok(false) };
        let earlier = |other: &&SubnetKey| other.kv.create_revision < own.kv.create_revision;
        let lost = keys.iter().filter(earlier).any(|other| other.overlaps(own.subnets) && !other.is_own(request));
        if lost {
            self.client.delete(&own.kv).await?;
        }
        Ok(!lost)
    }

    /// Writes the current content of the lease.
    pub(in crate::store) async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        let (name, prefix) = (self.key_of(lease), self.client.config.subnets_prefix());
        let object = format!("etcd's {name}");
        for _ in 0..RACES {
            let stored = self.client.get(&name).await?;
            let is_own = |key: &SubnetKey| key.is_of(&lease.node) || key.is_unnamed_at(lease.public);
            let Some(stored) = stored.and_then(|kv| SubnetKey::parse(&prefix, kv)).filter(is_own) else {
                let advice =
                    "netd recreates a deleted key; where another node has the key, restart netd to get another subnet";
                return Err(StoreError::write(object, advice, "the key is not this node's any more"));
            };
            let value = record::render(lease);
            if stored.kv.value == value.as_bytes() || self.client.replace(&stored.kv, &value).await? {
                return Ok(());
            }
        }
        let cause = format!("it changed {RACES} times while it was written");
        Err(StoreError::write(object, "see who else writes this key", cause))
    }

    /// Releases the node's subnets. A reservation stays reserved for the node; only its lease goes.
    pub(in crate::store) async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        for key in self.subnet_keys().await?.iter().filter(|key| key.is_of(node)) {
            if key.kv.lease == 0 {
                let public = key.record.as_ref().map_or(PerFamily::none(), |record| record.public);
                self.client.replace(&key.kv, &record::render_reservation(public)).await?;
                continue;
            }
            // A revocation removes the lease and its key in one step. Were the key deleted first, another machine of this name could
            // write it again under the same lease, and would lose it with the lease.
            if let Err(error) = self.client.revoke(key.kv.lease).await {
                // Without its key the lease does no harm: it expires by itself.
                tracing::debug!("the etcd lease is not revoked: {}", chain(&error));
                self.client.delete(&key.kv).await?;
            }
        }
        self.keep_alive.stop();
        Ok(())
    }
}
