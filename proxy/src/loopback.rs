//! Node ports on the loopback addresses 127.0.0.1 and `::1`, where `nodePortAddresses` asks for them (KEP-6032).
//!
//! Rules cannot serve them: a packet from a loopback address leaves the node only where `route_localnet` lets packets to loopback addresses
//! in, too (CVE-2020-8558). So the proxy listens itself, and passes connections of TCP on to endpoints. One thread has the listeners and the
//! connections: bytes that are copied must not keep changes of Services waiting. Where nobody asks for loopback, there is neither.

mod backend;
mod connection;
mod listeners;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;

use dataplane::types::Family;
use tokio::sync::{mpsc, watch};

pub use self::backend::Backend;
use self::listeners::{Failures, Listeners};
pub use self::wanted::{Changes, OnLoopback, Served, Wanted};
use crate::health::Metrics;
use crate::model::{PortKey, ServicePort};
use crate::problem::Problem;
use crate::topology::Resolved;

/// The node ports on loopback, if they are to be there.
#[derive(Debug)]
pub struct Loopback(Option<Running>);

#[derive(Debug)]
struct Running {
    wanted: Wanted,
    /// To the thread that has the listeners. Their end closes the listeners; the thread ends with the last connection.
    changes: mpsc::UnboundedSender<Changes>,
    failures: watch::Receiver<Failures>,
}

impl Loopback {
    /// Starts the thread for these families, in the network namespace of the calling one; for none, nothing.
    ///
    /// # Errors
    /// Where the thread cannot start.
    pub fn start(families: BTreeSet<Family>, metrics: &Arc<Metrics>) -> io::Result<Self> {
        if families.is_empty() {
            return Ok(Self(None));
        }
        let (changes, received) = mpsc::unbounded_channel();
        let listeners = Listeners::new(Arc::clone(metrics));
        let failures = listeners.failures();
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(listeners.follow(received)),
            Err(error) => tracing::error!("nobody serves node ports on loopback: {error}"),
        };
        thread::Builder::new().name("loopback".to_owned()).spawn(run)?;
        Ok(Self(Some(Running { wanted: Wanted::new(families), changes, failures })))
    }

    /// Service ports have changed. One may get a node port that another one of them had.
    pub fn update(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>) {
        let Some(running) = &mut self.0 else { return };
        let changes = running.wanted.update(ports);
        if !changes.is_empty() {
            // The thread waits for them as long as there is a sender.
            let _ = running.changes.send(changes);
        }
    }

    /// Waits until the problems are others.
    pub async fn changed(&mut self) {
        let changed = match &mut self.0 {
            Some(running) => running.failures.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }

    /// The listeners that could not be opened.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.iter().flat_map(|running| running.failures.borrow().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// What becomes of connections to the service port on loopback; `None` where it has nothing there.
    pub fn state(&self, port: &ServicePort) -> Option<OnLoopback> {
        let Running { wanted, failures, .. } = self.0.as_ref()?;
        let mut state = wanted.state(port)?;
        if state.served == Served::Listening && failures.borrow().contains_key(&state.address) {
            state.served = Served::Unavailable;
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests;
