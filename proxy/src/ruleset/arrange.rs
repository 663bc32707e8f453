//! The order of a service port's endpoints: the number by which an endpoint is drawn. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Puts `endpoints`, each of which is given once, into an order that differs from `former` as little as it can.
///
/// An endpoint keeps its number where it can. One that is gone leaves its number to a new one, else to the last one, so that the numbers
/// have no gap. So one changed endpoint changes one element, or two, and the clients that stay with another endpoint stay with it.
pub fn arrange(former: &[SocketAddr], endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    let wanted: BTreeSet<&SocketAddr> = endpoints.iter().collect();
    let known: BTreeSet<&SocketAddr> = former.iter().collect();
    let mut added = endpoints.iter().filter(|endpoint| !known.contains(endpoint));
    let mut order: Vec<SocketAddr> = Vec::with_capacity(endpoints.len());
    let mut gaps = Vec::new();
    for endpoint in former {
        if wanted.contains(endpoint) {
            order.push(*endpoint);
        } else if let Some(new) = added.next() {
            order.push(*new);
        } else {
            gaps.push(order.len());
            order.push(*endpoint);
        }
    }
    order.extend(added);
    for gap in gaps.into_iter().rev() {
        order.swap_remove(gap);
    }
    order
}
