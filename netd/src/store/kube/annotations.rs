//! What a Node says in its annotations, as a lease, and a lease as annotations: flannel's byte for byte, netd's beside them.
//!
//! Pure. The pods' ranges are the Node's own, not an annotation.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;

use dataplane::types::{Family, PerFamily, Prefix};
use network::backend::ENCAPSULATIONS_EXAMPLE;
use network::model::{BackendData, BackendType, Lease, NodeName};
use network::net_conf::NetConf;
use network::record;

use super::keys::{BACKEND, DATA, FamilyNames, MANAGED, PUBLIC, RECEIVES, SENDS};
use super::object::Node;
use crate::config::store::AnnotationPrefix;

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
#[derive(Debug, thiserror::Error)]
pub(super) enum RangesFault {
    /// The Node, of this name, has none.
    #[error(
        "node {0:?} pod cidr not assigned: start kube-controller-manager with --allocate-node-cidrs and --cluster-cidr, or give the Node a podCIDR"
    )]
    None(String),
    /// They are not what the network needs.
    #[error("{0}")]
    Unusable(String),
}

/// The ranges of the node's pods.
pub(super) fn ranges(node: &Node) -> Result<PerFamily<Prefix>, RangesFault> {
    let name = &node.name;
    let mut ranges = PerFamily::none();
    for text in &node.ranges {
        let range = text.parse().ok().filter(|range: &Prefix| !range.is_default()).ok_or_else(|| {
            let range = shortened(text);
            RangesFault::Unusable(format!("the podCIDR {range:?} of node {name:?} is no range of addresses"))
        })?;
        if ranges.slot(range.family()).replace(range).is_some() || node.ranges.len() > 2 {
            let ranges = shortened(&node.ranges.join(" "));
            let text = format!("node {name:?} pod cidrs should be IPv4/IPv6 only or dualstack, and not {ranges}");
            return Err(RangesFault::Unusable(text));
        }
    }
    if ranges.is_empty() { Err(RangesFault::None(name.clone())) } else { Ok(ranges) }
}

/// The node's ranges of the families that the network has.
pub(super) fn ranges_in(node: &Node, conf: &NetConf) -> Result<PerFamily<Prefix>, RangesFault> {
    let (name, ranges) = (&node.name, ranges(node)?);
    let mut subnets = PerFamily::none();
    for (family, network) in conf.prefixes().iter() {
        let Some(range) = ranges.get(family) else {
            return Err(RangesFault::Unusable(format!(
                "node {name:?} has no {family} podCIDR, but the network configuration has an {family} network: give kube-controller-manager both families in --cluster-cidr, or leave the family out of net-conf.json"
            )));
        };
        if !network.covers(*range) {
            return Err(RangesFault::Unusable(format!(
                "subnet {network} specified in the flannel net config doesn't contain {range} PodCIDR of the {name:?} node: make Network in net-conf.json the same as --cluster-cidr of kube-controller-manager"
            )));
        }
        *subnets.slot(family) = Some(*range);
    }
    Ok(subnets)
}

/// The lease that a Node tells of; `None` where it takes no part.
pub(super) fn lease(node: &Node, keys: &AnnotationPrefix) -> Result<Option<Lease>, NodeFault> {
    if annotation(node, &keys.key(MANAGED)) != Some("true") {
        return Ok(None);
    }
    let name: NodeName = node.name.parse()?;
    let subnets = ranges(node)?;
    let public = addresses(node, keys, PUBLIC)?;
    if public.is_empty() {
        let family = subnets.families().next().unwrap_or(Family::V4);
        return Err(NodeFault::Missing(keys.family_key(PUBLIC, family)));
    }
    let backend = annotation(node, &keys.key(BACKEND)).ok_or_else(|| NodeFault::Missing(keys.key(BACKEND)))?;
    let backend = BackendType::from(backend);
    let mut published = PerFamily::none();
    for family in Family::BOTH {
        *published.slot(family) = data(node, keys.family_key(DATA, family), &backend)?;
    }
    let texts = (node.annotations.get(&keys.key(RECEIVES)), node.annotations.get(&keys.key(SENDS)));
    let encapsulations = match texts {
        (Some(receives), Some(sends)) => {
            let support = record::encapsulations_of_texts(receives, sends).map_err(|error| NodeFault::Annotation {
                key: format!("{} or {}", keys.key(RECEIVES), keys.key(SENDS)),
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

/// An annotation that is not empty.
fn annotation<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.annotations.get(key).map(String::as_str).filter(|text| !text.is_empty())
}

fn data(node: &Node, key: String, backend: &BackendType) -> Result<Option<BackendData>, NodeFault> {
    let Some(text) = annotation(node, &key) else { return Ok(None) };
    BackendData::parse(backend, text).map_err(|error| NodeFault::Annotation {
        key,
        value: shortened(text),
        expected: format!("JSON like {}", backend.data_example()),
        source: Some(error.into()),
    })
}

/// The addresses in a Node's annotations of these names; an unspecified one is none.
pub(super) fn addresses(
    node: &Node,
    keys: &AnnotationPrefix,
    names: FamilyNames,
) -> Result<PerFamily<IpAddr>, NodeFault> {
    let mut addresses = PerFamily::none();
    for family in Family::BOTH {
        let key = keys.family_key(names, family);
        let Some(text) = annotation(node, &key) else { continue };
        let address = text.parse().ok().filter(|address: &IpAddr| Family::of(*address) == family);
        let expected = format!("an {family} address");
        let wrong = || NodeFault::Annotation { key, value: shortened(text), expected, source: None };
        let address = address.ok_or_else(wrong)?;
        *addresses.slot(family) = Some(address).filter(|address| !address.is_unspecified());
    }
    Ok(addresses)
}

/// The annotations of a lease, as peers are to see it.
pub(super) fn of_lease(
    lease: &Lease,
    overwrites: PerFamily<IpAddr>,
    keys: &AnnotationPrefix,
) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        (keys.key(MANAGED), "true".to_owned()),
        (keys.key(BACKEND), lease.backend.as_str().to_owned()),
    ]);
    for family in Family::BOTH {
        if let Some(public) = lease.public.get(family) {
            let seen = overwrites.get(family).unwrap_or(public);
            annotations.insert(keys.family_key(PUBLIC, family), seen.to_string());
        }
        let none = || lease.subnets.get(family).and_then(|_| lease.backend.no_data()).map(str::to_owned);
        let data = lease.data.get(family).map(BackendData::json).or_else(none);
        annotations.extend(data.map(|data| (keys.family_key(DATA, family), data)));
    }
    if let Some(support) = &lease.encapsulations {
        let (receives, sends) = record::texts_of_encapsulations(support);
        annotations.extend([(keys.key(RECEIVES), receives), (keys.key(SENDS), sends)]);
    }
    annotations
}

/// What must be written for the Node to have these annotations of ours: values, and `None` for those to take away.
pub(super) fn changes(
    node: &Node,
    wanted: &BTreeMap<String, String>,
    keys: &AnnotationPrefix,
) -> BTreeMap<String, Option<String>> {
    let stale = keys.written().filter(|key| node.annotations.contains_key(key) && !wanted.contains_key(key));
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
