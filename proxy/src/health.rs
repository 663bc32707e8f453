//! What others ask the proxy over HTTP: whether it is healthy, its metrics, and whether this node has endpoints of a Service.
//!
//! Paths, bodies and names are kube-proxy's. The proxy is healthy unless the kernel's table of a family has waited for a change too long.

mod metrics;
mod service_checks;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane::types::Family;
use jiff::Timestamp;
use listener::http::{self, Answer, OPEN_METRICS, StatusCode, TEXT, answer, header};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use self::metrics::{LoopbackMetrics, Metrics, Run};
pub use self::service_checks::ServiceChecks;
use crate::config::Config;

/// How long a listener waits that could not be opened.
const RETRY: Duration = Duration::from_secs(5);
/// Who answers: kube-proxy's health checks have the same paths and bodies, and no such header.
pub(crate) const SERVER: &str = "netd-proxy";
const JSON: header::HeaderValue = header::HeaderValue::from_static("application/json");

/// Why a listener is not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer on {address} ({field}): choose another address, or none")]
pub struct ListenError {
    address: SocketAddr,
    field: &'static str,
    source: io::Error,
}

/// The proxy's health, which all who hold a clone see.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// How long a change may wait.
    timeout: Duration,
    /// When each family's table was last as desired.
    updated: BTreeMap<Family, Timestamp>,
    /// Since when a family's table waits for a change.
    pending: BTreeMap<Family, Instant>,
    is_node_leaving: bool,
}

impl Health {
    /// Healthy, until a change has waited for `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let (updated, pending) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { timeout, updated, pending, is_node_leaving: false })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The family's table waits for a change.
    pub fn pending(&self, family: Family) {
        self.state().pending.entry(family).or_insert_with(Instant::now);
    }

    /// The family's table is as desired.
    pub fn updated(&self, family: Family, now: Timestamp) {
        let mut state = self.state();
        state.pending.remove(&family);
        state.updated.insert(family, now);
    }

    /// The node is about to leave the cluster: load balancers should send it nothing new.
    pub fn set_node_leaving(&self, is_leaving: bool) {
        self.state().is_node_leaving = is_leaving;
    }

    /// True unless a change waits too long.
    pub fn is_healthy(&self) -> bool {
        let state = self.state();
        state.pending.values().all(|since| since.elapsed() < state.timeout)
    }

    /// The answer to `/healthz`, which counts whether the node leaves, and to `/livez`, which does not.
    fn answer(&self, now: Timestamp, is_livez: bool) -> Answer {
        let (is_healthy, is_eligible) = (self.is_healthy(), !self.state().is_node_leaving);
        let updated = if is_healthy { Some(now) } else { self.state().updated.values().max().copied() };
        let eligible = if is_livez { String::new() } else { format!(r#", "nodeEligible": {is_eligible}"#) };
        let body = format!(r#"{{"lastUpdated": "{}","currentTime": "{}"{eligible}}}"#, time(updated), time(Some(now)));
        let mut answer = json(is_healthy && (is_livez || is_eligible), body);
        answer.headers_mut().insert(header::SERVER, header::HeaderValue::from_static(SERVER));
        answer
    }
}

/// A time as Go prints it.
fn time(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        None => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
    }
}

fn json(is_ok: bool, body: String) -> Answer {
    sealed(answer(if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, JSON, body))
}

/// An answer that no browser may take for something else.
fn sealed(mut answer: Answer) -> Answer {
    let nosniff = header::HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

/// Opens the listeners for health and metrics, within a tokio runtime. They are closed when the set is dropped. One that cannot be opened
/// is tried again, unless the configuration says that the program ends then. One on
/// the reserved port waits until that is free.
///
/// # Errors
/// Where a listener cannot be opened and the configuration says so.
pub fn listen(
    config: &Config,
    health: &Health,
    metrics: &Arc<Metrics>,
    reserved: &Reserved,
) -> Result<JoinSet<()>, ListenError> {
    let mut servers = JoinSet::new();
    let how = Opening { must: config.bind_address_hard_fail, reserved };
    if let Some(address) = config.healthz {
        let (health, metrics) = (health.clone(), metrics.clone());
        let respond = move |path: &str| match path {
            "/healthz" | "/livez" => {
                let answer = health.answer(Timestamp::now(), path == "/livez");
                metrics.health(path == "/livez", answer.status().as_u16());
                answer
            }
            _ => not_found(),
        };
        open(&mut servers, address, "healthzBindAddress, --healthz-bind-address", how, respond)?;
    }
    if let Some(address) = config.metrics {
        let metrics = metrics.clone();
        let respond = move |path: &str| match path {
            "/metrics" => answer(StatusCode::OK, OPEN_METRICS, metrics.text()),
            "/proxyMode" => sealed(answer(StatusCode::OK, TEXT, "nftables")),
            "/healthz" => sealed(answer(StatusCode::OK, TEXT, "ok")),
            _ => not_found(),
        };
        open(&mut servers, address, "metricsBindAddress, --metrics-bind-address", how, respond)?;
    }
    Ok(servers)
}

fn not_found() -> Answer {
    answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n")
}

/// A port that is left to another program as long as that may want it.
#[derive(Debug)]
pub struct Reserved {
    /// The port, at any address.
    pub port: u16,
    /// True when the other program wants it no more.
    pub is_free: watch::Receiver<bool>,
}

/// How listeners are opened.
#[derive(Clone, Copy)]
struct Opening<'p> {
    /// The program ends where one cannot be opened.
    must: bool,
    reserved: &'p Reserved,
}

fn open(
    servers: &mut JoinSet<()>,
    address: SocketAddr,
    field: &'static str,
    Opening { must, reserved }: Opening,
    respond: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static,
) -> Result<(), ListenError> {
    let mut is_free = reserved.is_free.clone();
    let is_reserved = address.port() == reserved.port;
    let may_open = must || *is_free.borrow() || !is_reserved;
    let first = may_open.then(|| bind(address).map_err(|source| ListenError { address, field, source }));
    let first = match first {
        Some(Err(error)) if must => return Err(error),
        Some(Err(error)) => {
            tracing::warn!("{error}: {}; trying again", error.source);
            None
        }
        Some(Ok(listener)) => Some(listener),
        None => None,
    };
    servers.spawn(async move {
        let listener = if let Some(listener) = first {
            listener
        } else {
            if is_reserved {
                // An error says that nobody looks for another program any more.
                let _ = is_free.wait_for(|is_free| *is_free).await;
            }
            loop {
                if let Ok(listener) = bind(address) {
                    tracing::info!("answering on {address} ({field})");
                    break listener;
                }
                sleep(RETRY).await;
            }
        };
        http::serve(listener, respond).await;
    });
    Ok(())
}

/// Opens a listener, within a tokio runtime.
fn bind(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
