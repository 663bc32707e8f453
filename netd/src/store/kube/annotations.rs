//! What a Node says in its annotations, as a lease, and a lease as annotations: flannel's byte for byte, netd's beside them.
//!
//! Pure. The pods' ranges are the Node's own, not an annotation.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;

use dataplane::types::{Family, PerFamily, Prefix};
use network::backend::ENCAPSULATIONS_EXAMPLE;
use network::model::{BackendData, BackendType, Lease, NodeName};
use network::net_conf::NetConf;
use network::record;

use super::keys::Keys;
use super::object::Node;

/// Why a Node has no lease to believe.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeFault {
    /// Its name is none.
    #[error("its name is none of a node")]
    Name(#[from] network::model::NodeNameError),
    /// Its pods' ranges are none.
    #[error(transparent)]
    Ranges(#[from] RangesFault),
    /// An annotation does not hold what it must.
    #[error("its annotation {key} is {value:?}, but must be {expected}")]
    Annotation {
        /// Which.
        key: String,
        /// What it holds.
        value: String,
        /// What it should.
        expected: String,
        /// Why.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Annotations that must be there are not.
    #[error("its annotation {0} is missing")]
    Missing(String),
}

/// Why a Node's pods' ranges cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RangesFault {
    /// None are there.
    #[error(
        "node {node:?} pod cidr not assigned: start kube-controller-manager with --allocate-node-cidrs and --cluster-cidr, or give the Node a podCIDR"
    )]
    None {
        /// The node.
        node: String,
    },
    /// Too many, or two of one family.
    #[error("node {node:?} pod cidrs should be IPv4/IPv6 only or dualstack, and not {ranges}")]
    Many {
        /// The node.
        node: String,
        /// What it has.
        ranges: String,
    },
    /// One is no range.
    #[error("the podCIDR {range:?} of node {node:?} is no range of addresses")]
    NoRange {
        /// The node.
        node: String,
        /// What it has.
        range: String,
    },
    /// A family of the network has no range.
    #[error(
        "node {node:?} has no {family} podCIDR, but the network configuration has an {family} network: give kube-controller-manager both families in --cluster-cidr, or leave the family out of net-conf.json"
    )]
    Lacks {
        /// The node.
        node: String,
        /// The family.
        family: Family,
    },
    /// One is somewhere else.
    #[error(
        "subnet {network} specified in the flannel net config doesn't contain {range} PodCIDR of the {node:?} node: make Network in net-conf.json the same as --cluster-cidr of kube-controller-manager"
    )]
    Outside {
        /// The node.
        node: String,
        /// Its range.
        range: Prefix,
        /// The network.
        network: Prefix,
    },
}

/// The ranges of the node's pods.
pub(super) fn ranges(node: &Node) -> Result<PerFamily<Prefix>, RangesFault> {
    let name = || node.name.clone();
    let mut ranges = PerFamily::none();
    for text in &node.ranges {
        let wrong = || RangesFault::NoRange { node: name(), range: shortened(text) };
        let range: Prefix = text.parse().map_err(|_| wrong())?;
        if range.is_default() {
            return Err(wrong());
        }
        if ranges.slot(range.family()).replace(range).is_some() || node.ranges.len() > 2 {
            return Err(RangesFault::Many { node: name(), ranges: shortened(&node.ranges.join(" ")) });
        }
    }
    if ranges.is_empty() { Err(RangesFault::None { node: name() }) } else { Ok(ranges) }
}

/// The node's ranges of the families that the network has.
pub(super) fn ranges_in(node: &Node, conf: &NetConf) -> Result<PerFamily<Prefix>, RangesFault> {
    let ranges = ranges(node)?;
    let mut subnets = PerFamily::none();
    for family in Family::BOTH {
        let Some(network) = conf.networks.get(family).map(|range| range.network) else { continue };
        let range = *ranges.get(family).ok_or_else(|| RangesFault::Lacks { node: node.name.clone(), family })?;
        if !network.covers(range) {
            return Err(RangesFault::Outside { node: node.name.clone(), range, network });
        }
        *subnets.slot(family) = Some(range);
    }
    Ok(subnets)
}

/// The lease that a Node tells of; `None` where it takes no part.
pub(super) fn lease(node: &Node, keys: &Keys) -> Result<Option<Lease>, NodeFault> {
    if node.annotations.get(&keys.managed()).map(String::as_str) != Some("true") {
        return Ok(None);
    }
    let name: NodeName = node.name.parse()?;
    let subnets = ranges(node)?;
    let public = addresses(node, |family| keys.public(family))?;
    if public.is_empty() {
        return Err(NodeFault::Missing(keys.public(subnets.families().next().unwrap_or(Family::V4))));
    }
    let backend = node.annotations.get(&keys.backend()).filter(|text| !text.is_empty());
    let backend = BackendType::from(backend.ok_or_else(|| NodeFault::Missing(keys.backend()))?.as_str());
    let mut published = PerFamily::none();
    for family in Family::BOTH {
        *published.slot(family) = data(node, keys.data(family), &backend)?;
    }
    let texts = (node.annotations.get(&keys.receives()), node.annotations.get(&keys.sends()));
    let encapsulations = match texts {
        (Some(receives), Some(sends)) => {
            let support = record::encapsulations_of_texts(receives, sends).map_err(|error| NodeFault::Annotation {
                key: format!("{} or {}", keys.receives(), keys.sends()),
                value: shortened(&format!("{receives} {sends}")),
                expected: format!("a list like {ENCAPSULATIONS_EXAMPLE}"),
                source: Some(error.into()),
            })?;
            Some(support)
        }
        _ => None,
    };
    Ok(Some(Lease { node: name, subnets, public, backend, data: published, encapsulations }))
}

fn data(node: &Node, key: String, backend: &BackendType) -> Result<Option<BackendData>, NodeFault> {
    let Some(text) = node.annotations.get(&key).filter(|text| !text.is_empty()) else { return Ok(None) };
    BackendData::parse(backend, text).map_err(|error| NodeFault::Annotation {
        key,
        value: shortened(text),
        expected: format!("JSON like {}", backend.data_example()),
        source: Some(error.into()),
    })
}

fn addresses(node: &Node, key: impl Fn(Family) -> String) -> Result<PerFamily<IpAddr>, NodeFault> {
    let mut addresses = PerFamily::none();
    for family in Family::BOTH {
        let key = key(family);
        let Some(text) = node.annotations.get(&key).filter(|text| !text.is_empty()) else { continue };
        let address = text.parse().ok().filter(|address: &IpAddr| Family::of(*address) == family);
        let expected = format!("an {family} address");
        let wrong = || NodeFault::Annotation { key, value: shortened(text), expected, source: None };
        let address = address.ok_or_else(wrong)?;
        *addresses.slot(family) = Some(address).filter(|address| !address.is_unspecified());
    }
    Ok(addresses)
}

/// What the Node's owner has put in place of the flags for its public addresses.
pub(super) fn node_public(node: &Node, keys: &Keys) -> Result<PerFamily<IpAddr>, NodeFault> {
    addresses(node, |family| keys.node_public(family))
}

/// What its owner wants peers to see in place of its public addresses.
pub(super) fn overwrites(node: &Node, keys: &Keys) -> Result<PerFamily<IpAddr>, NodeFault> {
    addresses(node, |family| keys.overwrite(family))
}

/// The annotations of a lease, as peers are to see it.
pub(super) fn of_lease(lease: &Lease, overwrites: PerFamily<IpAddr>, keys: &Keys) -> BTreeMap<String, String> {
    let mut annotations =
        BTreeMap::from([(keys.managed(), "true".to_owned()), (keys.backend(), lease.backend.as_str().to_owned())]);
    for family in Family::BOTH {
        if let Some(public) = lease.public.get(family) {
            let seen = overwrites.get(family).unwrap_or(public);
            annotations.insert(keys.public(family), seen.to_string());
        }
        let none = || lease.subnets.get(family).and_then(|_| lease.backend.no_data()).map(str::to_owned);
        let data = lease.data.get(family).map(BackendData::json).or_else(none);
        annotations.extend(data.map(|data| (keys.data(family), data)));
    }
    if let Some(support) = &lease.encapsulations {
        let (receives, sends) = record::texts_of_encapsulations(support);
        annotations.extend([(keys.receives(), receives), (keys.sends(), sends)]);
    }
    annotations
}

/// What must be written for the Node to have these annotations of ours: values, and `None` for those to take away.
pub(super) fn changes(node: &Node, wanted: &BTreeMap<String, String>, keys: &Keys) -> BTreeMap<String, Option<String>> {
    let written: BTreeSet<String> = keys.written().collect();
    let stale = written.into_iter().filter(|key| node.annotations.contains_key(key) && !wanted.contains_key(key));
    let stale = stale.map(|key| (key, None));
    let new = wanted.iter().filter(|(key, value)| node.annotations.get(*key) != Some(value));
    stale.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

/// A stranger's text as a message can show it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
