//! The listeners on loopback: one for each node port of TCP with an endpoint.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::types::Family;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::backend::{Backend, Balancer};
use super::connection::pass_on;
use super::wanted::Changes;
use crate::health::Metrics;
use crate::problem::{Kind, Problem};

/// When an address that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many connections there may be at a time; more wait until one ends.
const CONNECTIONS: u32 = 4096;

/// What could not be opened, and why.
pub(super) type Failures = BTreeMap<SocketAddr, Problem>;

#[derive(Debug)]
struct Listener {
    balancer: Arc<Mutex<Balancer>>,
    /// The task that takes connections, if the address is open. It ends when this is dropped.
    accepting: JoinSet<()>,
}

/// The listeners, and what could not be opened.
#[derive(Debug)]
pub(super) struct Listeners {
    all: BTreeMap<SocketAddr, Listener>,
    failures: watch::Sender<Failures>,
    /// When to try again what could not be opened.
    retry: Option<Instant>,
    /// A permit for each connection that there may be at a time.
    connections: Arc<Semaphore>,
    places: u32,
    metrics: Arc<Metrics>,
}

impl Listeners {
    /// None yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let places = most_connections();
        let connections = Arc::new(Semaphore::new(places as usize));
        Self { all: BTreeMap::new(), failures: watch::Sender::default(), retry: None, connections, places, metrics }
    }

    /// What could not be opened, and each change of that.
    pub(super) fn failures(&self) -> watch::Receiver<Failures> {
        self.failures.subscribe()
    }

    /// Follows changes until nobody can send one any more; then closes the listeners, and waits for the end of the connections.
    pub(super) async fn follow(mut self, changes: mpsc::UnboundedReceiver<Changes>) {
        self.take(changes).await;
        let Self { all, connections, places, .. } = self;
        drop(all);
        // An error says that there are no places, and so no connections.
        let _ = connections.acquire_many(places).await;
    }

    async fn take(&mut self, mut changes: mpsc::UnboundedReceiver<Changes>) {
        loop {
            let retry = self.retry;
            tokio::select! {
                received = changes.recv() => {
                    let Some(received) = received else { return };
                    for (address, backend) in received {
                        match backend {
                            Some(backend) => self.set(address, backend),
                            None => self.close(address).await,
                        }
                    }
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => self.open_failed(),
            }
        }
    }

    fn set(&mut self, address: SocketAddr, backend: Backend) {
        if let Some(listener) = self.all.get(&address) {
            listener.balancer.lock().unwrap_or_else(PoisonError::into_inner).set(backend);
            if !listener.accepting.is_empty() {
                return;
            }
        } else {
            let balancer = Arc::new(Mutex::new(Balancer::new(backend)));
            self.all.insert(address, Listener { balancer, accepting: JoinSet::new() });
        }
        self.open(address);
    }

    /// Closes a listener; its connections stay. Once this has ended, the address is free.
    async fn close(&mut self, address: SocketAddr) {
        let Some(mut listener) = self.all.remove(&address) else { return };
        if listener.accepting.is_empty() {
            self.failures.send_modify(|failures| drop(failures.remove(&address)));
        } else {
            listener.accepting.shutdown().await;
            self.metrics.loopback.closed(Family::of(address.ip()));
        }
    }

    fn open_failed(&mut self) {
        self.retry = None;
        let failed: Vec<SocketAddr> = self.failures.borrow().keys().copied().collect();
        for address in failed {
            self.open(address);
        }
    }

    fn open(&mut self, address: SocketAddr) {
        let Some(listener) = self.all.get_mut(&address) else { return };
        let family = Family::of(address.ip());
        match bind(address) {
            Ok(socket) => {
                let (balancer, connections) = (Arc::clone(&listener.balancer), Arc::clone(&self.connections));
                listener.accepting.spawn(accept(socket, balancer, connections));
                self.metrics.loopback.opened(family);
                self.failures.send_if_modified(|failures| failures.remove(&address).is_some());
            }
            Err(error) => {
                let balancer = listener.balancer.lock().unwrap_or_else(PoisonError::into_inner);
                let problem = problem(balancer.backend(), address, &error);
                self.metrics.loopback.failed(family);
                self.retry.get_or_insert_with(|| Instant::now() + RETRY);
                self.failures.send_if_modified(|failures| {
                    let is_known = failures.get(&address).is_some_and(|known| problem.says_the_same_as(known));
                    failures.insert(address, problem);
                    !is_known
                });
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn problem(backend: &Backend, address: SocketAddr, error: &io::Error) -> Problem {
    let detail =
        format!("cannot be opened ({error}), so that connections of this node to it do not come to the Service");
    let subject = format!("node port {address} of Service {}", backend.name);
    let problem = Problem::new(Kind::LoopbackUnavailable, subject, detail);
    problem.with_remedy(format!("see who has the port by `ss -ltnp sport = {}`", address.port()))
}

/// Takes connections until the future is dropped. The connections do not end with it.
async fn accept(listener: TcpListener, balancer: Arc<Mutex<Balancer>>, connections: Arc<Semaphore>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Too many open files: there is nothing to do but wait.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let balancer = Arc::clone(&balancer);
        tokio::spawn(async move {
            pass_on(client, &balancer).await;
            drop(place);
        });
    }
}

/// Lets the process open as many files as it may: each listener is one, each connection two. Half of them are left to all else.
fn most_connections() -> u32 {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() => soft,
        Ok((_, hard)) => hard,
        Err(_) => 1024,
    };
    u32::try_from(limit / 4).unwrap_or(u32::MAX).clamp(1, CONNECTIONS)
}
