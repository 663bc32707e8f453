//! Builds a node's lease: the subnets and the advertised facts. Shared by the stores in which nodes allocate their own subnets.
//!
//! Pure: the other nodes' subnets are an argument.

use dataplane::types::{PerFamily, Prefix};
use network::allocation;
use network::hash::fnv;
use network::model::Lease;
use network::net_conf::NetConf;

use super::{LeaseRequest, StoreError};

/// True where a node with these subnets needs no new ones.
pub(super) fn is_sufficient(conf: &NetConf, stored: PerFamily<Prefix>) -> bool {
    conf.networks.iter().all(|(family, range)| stored.get(family).is_some_and(|subnet| range.suits(*subnet)))
}

/// The subnets for `request`: the node's `stored` ones where they suit `conf`, else free ones.
pub(super) fn subnets(
    request: &LeaseRequest,
    conf: &NetConf,
    stored: PerFamily<Prefix>,
    others: &[PerFamily<Prefix>],
) -> Result<PerFamily<Prefix>, StoreError> {
    let mut subnets = PerFamily::none();
    for (family, range) in conf.networks.iter() {
        // The node's pods use its stored subnet, so the node keeps it even where another lease overlaps it.
        let kept = stored.get(family).copied().filter(|subnet| range.suits(*subnet));
        // Nodes leave records with subnets of another size out of the network.
        let of_nodes = others.iter().filter_map(|subnets| subnets.get(family).copied());
        let of_nodes = of_nodes.filter(|subnet| subnet.len() == range.subnet_len);
        let taken = of_nodes.chain(request.elsewhere.iter().copied());
        // A number derived from the node's name, so that a node that lost its state tends to get its former subnet again.
        let seed = fnv(request.node.as_str().as_bytes());
        let subnet = kept
            .map_or_else(|| allocation::next_free(range, taken, request.previous.get(family).copied(), seed), Ok)
            .map_err(|error| StoreError::allocate(&request.node, error))?;
        *subnets.slot(family) = Some(subnet);
    }
    Ok(subnets)
}

/// The lease for `request` with these subnets. `stored` is the node's current lease.
pub(super) fn lease(request: &LeaseRequest, subnets: PerFamily<Prefix>, stored: Option<&Lease>) -> Lease {
    Lease {
        node: request.node.clone(),
        subnets,
        public: request.public,
        backend: request.backend.clone(),
        data: request.data.map(|family, request| request.data(stored.and_then(|lease| lease.data.get(family)))),
        // Peers rely on the advertised encapsulations until the kernel matches the new configuration.
        encapsulations: stored.and_then(|lease| lease.encapsulations.clone()),
    }
}
