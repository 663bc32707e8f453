//! `healthCheckNodePort`: a load balancer asks each node whether it has endpoints of a Service with `externalTrafficPolicy: Local`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use listener::http::{self, Answer, header};
use tokio::task::JoinSet;

use super::{Health, bind, json};
use crate::model::ServiceName;
use crate::problem::{Kind, Problem};

const WEIGHT: header::HeaderName = header::HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The Services that are asked for, and their listeners.
#[derive(Debug)]
pub struct ServiceChecks {
    health: Health,
    checks: BTreeMap<ServiceName, Check>,
    /// The listeners are on addresses that are not the right ones any more.
    is_stale: bool,
}

#[derive(Debug)]
struct Check {
    port: u16,
    /// The endpoints of this node that are ready.
    local: Arc<AtomicUsize>,
    /// What answers, or why nothing does; `None` before the first attempt.
    servers: Option<io::Result<JoinSet<()>>>,
}

impl ServiceChecks {
    /// No Services.
    pub fn new(health: Health) -> Self {
        Self { health, checks: BTreeMap::new(), is_stale: false }
    }

    /// A Service's port and the number of its ready endpoints on this node; `None` where nobody asks for it.
    pub fn set(&mut self, name: &ServiceName, check: Option<(u16, usize)>) {
        let Some((port, local)) = check else {
            self.checks.remove(name);
            return;
        };
        let known = self.checks.get(name).filter(|known| known.port == port);
        if let Some(known) = known {
            known.local.store(local, Ordering::Relaxed);
        } else {
            let local = Arc::new(AtomicUsize::new(local));
            self.checks.insert(name.clone(), Check { port, local, servers: None });
        }
    }

    /// The node has other addresses now.
    pub fn set_stale(&mut self) {
        self.is_stale = true;
    }

    /// Closes every listener where the node has other addresses, to be opened there by [`Self::open`].
    pub async fn close_stale(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        for check in self.checks.values_mut() {
            if let Some(Ok(mut servers)) = check.servers.take() {
                servers.shutdown().await;
            }
        }
    }

    /// Opens the listeners that are not open, within a tokio runtime: on some of the node's addresses, or on all where `addresses` gives
    /// none. Returns true where the problems are others than before.
    pub fn open(&mut self, mut addresses: impl FnMut() -> Option<Vec<IpAddr>>) -> bool {
        let mut changed = false;
        for (name, check) in &mut self.checks {
            if matches!(check.servers, Some(Ok(_))) {
                continue;
            }
            let failed_before = check.servers.is_some();
            let servers = open(name, check.port, addresses().as_deref(), &self.health, &check.local);
            changed |= failed_before != servers.is_err();
            check.servers = Some(servers);
        }
        changed
    }

    /// True where a listener could not be opened.
    pub fn has_failed(&self) -> bool {
        self.checks.values().any(|check| matches!(check.servers, Some(Err(_))))
    }

    /// What could not be opened, on the node of that name.
    pub fn failures(&self, node: &str) -> impl Iterator<Item = (&ServiceName, Problem)> {
        self.checks.iter().filter_map(move |(name, Check { port, servers, .. })| {
            let error = servers.as_ref()?.as_ref().err()?;
            let detail = format!(
                "has the healthCheckNodePort {port}, on which node {node} cannot answer ({error}), so that load balancers pass over it"
            );
            let problem = Problem::new(Kind::HealthCheckUnavailable, format!("Service {name}"), detail);
            Some((name, problem.with_remedy(format!("see who has the port by `ss -ltnp sport = {port}`"))))
        })
    }
}

fn open(
    name: &ServiceName,
    port: u16,
    addresses: Option<&[IpAddr]>,
    health: &Health,
    local: &Arc<AtomicUsize>,
) -> io::Result<JoinSet<()>> {
    let bind_to = |address: IpAddr| bind(SocketAddr::new(address, port));
    let listeners = match addresses {
        Some(addresses) => addresses.iter().map(|address| bind_to(*address)).collect::<io::Result<Vec<_>>>()?,
        // Without IPv6, there is no address for both families.
        None => vec![bind_to(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| {
            if error.kind() == io::ErrorKind::AddrInUse { Err(error) } else { bind_to(Ipv4Addr::UNSPECIFIED.into()) }
        })?],
    };
    let mut servers = JoinSet::new();
    for listener in listeners {
        let (name, health, local) = (name.clone(), health.clone(), Arc::clone(local));
        servers.spawn(http::serve(listener, move |_: &str| {
            respond(&name, local.load(Ordering::Relaxed), health.is_healthy())
        }));
    }
    Ok(servers)
}

fn respond(ServiceName { namespace, name }: &ServiceName, local: usize, is_healthy: bool) -> Answer {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
         \"serviceProxyHealthy\": {is_healthy}\n}}"
    );
    let mut answer = json(is_healthy && local > 0, body);
    answer.headers_mut().insert(WEIGHT, local.into());
    answer
}
