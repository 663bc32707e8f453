//! What a node's lease becomes: its subnets, and what it says of itself. The same for every store in which nodes take subnets.
//!
//! Pure: what others have is an argument.

use dataplane::types::{Family, PerFamily, Prefix};
use network::allocation;
use network::hash::fnv;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;

use super::{LeaseRequest, StoreError};

/// True where a node with these subnets needs no others.
pub(super) fn suffice(conf: &NetConf, stored: PerFamily<Prefix>) -> bool {
    conf.networks.iter().all(|(family, range)| stored.get(family).is_some_and(|subnet| range.suits(*subnet)))
}

/// The subnets for `request`: those that it has in `stored` as long as they suit `conf`, else free ones.
pub(super) fn subnets(
    request: &LeaseRequest,
    conf: &NetConf,
    stored: PerFamily<Prefix>,
    others: &[PerFamily<Prefix>],
) -> Result<PerFamily<Prefix>, StoreError> {
    let mut subnets = PerFamily::none();
    for family in Family::BOTH {
        let Some(range) = conf.networks.get(family) else { continue };
        // What the node has, its pods use: it stays, whatever other leases say.
        let stored = stored.get(family).filter(|subnet| range.suits(**subnet));
        let subnet = match stored {
            Some(&subnet) => Ok(subnet),
            None => allocation::next_free(
                range,
                others.iter().filter_map(|subnets| subnets.get(family).copied()),
                request.previous.get(family).copied(),
                seed(&request.node),
            ),
        };
        let subnet =
            subnet.map_err(|error| StoreError::Allocate { node: request.node.clone(), source: error.into() })?;
        *subnets.slot(family) = Some(subnet);
    }
    Ok(subnets)
}

/// The lease of `request` with these subnets. `stored` is the lease so far.
pub(super) fn lease(request: &LeaseRequest, subnets: PerFamily<Prefix>, stored: Option<&Lease>) -> Lease {
    Lease {
        node: request.node.clone(),
        subnets,
        public: request.public,
        backend: request.backend.clone(),
        data: request.data.map(|family, request| request.data(stored.and_then(|lease| lease.data.get(family)))),
        // What peers rely on stays until the kernel is as the new configuration wants it.
        encapsulations: stored.and_then(|lease| lease.encapsulations.clone()),
    }
}

/// A number that is a node's own, so that a node without any memory still tends to get the subnet it had.
fn seed(node: &NodeName) -> u64 {
    fnv(node.as_str().as_bytes())
}
