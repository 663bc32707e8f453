//! To which endpoint a connection goes that comes to a listener. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::model::PortName;

/// Where the connections of a listener go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The service port.
    pub name: PortName,
    /// At least one.
    pub endpoints: Box<[SocketAddr]>,
    /// How long connections stay with an endpoint: `sessionAffinity: ClientIP`.
    pub affinity: Option<Duration>,
}

/// Draws endpoints. Clients on loopback all have one address, so that affinity means one endpoint for all of them.
#[derive(Debug)]
pub(super) struct Balancer {
    backend: Backend,
    /// The endpoint of the last connection, and when that was.
    last: Option<(SocketAddr, Instant)>,
}

impl Balancer {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, last: None }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Takes other endpoints, or those of another service port. Connections that are there stay.
    pub(super) fn set(&mut self, backend: Backend) {
        if (&self.backend.name, self.backend.affinity) != (&backend.name, backend.affinity) {
            self.last = None;
        }
        self.backend = backend;
    }

    /// The endpoints in the order in which a connection tries them. `random` gives a number below its argument.
    pub(super) fn draw(&mut self, now: Instant, mut random: impl FnMut(usize) -> usize) -> Vec<SocketAddr> {
        let mut order = self.backend.endpoints.to_vec();
        for place in (1..order.len()).rev() {
            order.swap(place, random(place + 1));
        }
        let is_recent = |at: Instant| self.backend.affinity.is_some_and(|time| now.duration_since(at) <= time);
        let kept = self.last.filter(|(_, at)| is_recent(*at)).map(|(endpoint, _)| endpoint);
        if let Some(place) = kept.and_then(|kept| order.iter().position(|endpoint| *endpoint == kept)) {
            order.swap(0, place);
        }
        self.last = order.first().map(|first| (*first, now));
        order
    }

    /// A connection went to an endpoint that was not the first one in its order: the first one cannot be reached.
    pub(super) fn fell_back(&mut self, to: SocketAddr, now: Instant) {
        self.last = Some((to, now));
    }
}

#[cfg(test)]
mod tests;
