//! A key that holds a node's subnets: whose key it is, and which subnets it occupies.
//!
//! Pure.

use std::net::IpAddr;

use dataplane::types::{PerFamily, Prefix};
use network::model::{Lease, NodeName};

use super::key_value::KeyValue;
use super::record::{self, NodeRecord};
use crate::store::LeaseRequest;

/// A key below `subnets/` with its parsed name and value.
#[derive(Debug)]
pub(super) struct SubnetKey {
    pub(super) kv: KeyValue,
    pub(super) subnets: PerFamily<Prefix>,
    /// The parsed value; `None` where the value is invalid. The subnets are occupied all the same.
    pub(super) record: Option<NodeRecord>,
}

impl SubnetKey {
    /// Parses a key below `prefix`; `None` for a foreign one.
    pub(super) fn parse(prefix: &str, kv: KeyValue) -> Option<Self> {
        let subnets = record::subnets(kv.key.strip_prefix(prefix)?)?;
        let record = record::parse(subnets, &kv.value).ok();
        Some(Self { kv, subnets, record })
    }

    pub(super) fn is_of(&self, node: &NodeName) -> bool {
        self.record.as_ref().is_some_and(|record| record.node.as_ref() == Some(node))
    }

    /// True where the record names no node and has one of these addresses, by which flannel recognises its own record.
    pub(super) fn is_unnamed_at(&self, public: PerFamily<IpAddr>) -> bool {
        self.record.as_ref().is_some_and(|record| record.node.is_none()) && self.has_address(public)
    }

    fn has_address(&self, public: PerFamily<IpAddr>) -> bool {
        let Some(record) = &self.record else { return false };
        match (record.public.v4, public.v4) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => record.public.v6.is_some() && record.public.v6 == public.v6,
        }
    }

    /// True where the record is the requesting node's. A renamed node recognises its record by the address and the subnets that its
    /// pods use; the address alone is no proof, since two nodes may have been given the same one.
    pub(super) fn is_own(&self, request: &LeaseRequest) -> bool {
        self.is_of(&request.node)
            || self.is_unnamed_at(request.public)
            || self.has_address(request.public) && self.subnets == request.previous
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.record.as_ref()?.lease.as_ref()
    }

    pub(super) fn overlaps(&self, subnets: PerFamily<Prefix>) -> bool {
        self.subnets.iter().any(|(family, held)| subnets.get(family).is_some_and(|subnet| subnet.overlaps(*held)))
    }
}
