//! The proxy: events of a source become changes of the kernel's tables.
//!
//! One task, which waits for the source, the kernel or the clock, and does then the least that answers it. Nothing is programmed before
//! Services and endpoints are known whole: a table with half of them would refuse the other half.

mod error;
mod notifications;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use apiserver::ApiServer;
use dataplane::monitor::{AsyncMonitor, Filter, Subscription};
use dataplane::nft::{self, Table};
use dataplane::types::Family;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

pub use self::error::AppError;
use crate::config::Config;
use crate::conntrack::{self, Flows};
use crate::events::Events;
use crate::health::{self, Health, Metrics, Reserved, Run, ServiceChecks};
use crate::keeper::Keeper;
use crate::kube_proxy;
use crate::listing::Listing;
use crate::listing::server::{self, Question};
use crate::loopback::Loopback;
use crate::model::{Event, PortKey, ServiceName, ServicePort};
use crate::problem::{Problem, Problems};
use crate::ruleset::{NodePorts, Settings};
use crate::services::{Changed, Services};

/// How often everything is compared with the kernel, whatever the notifications say.
const PERIOD: Duration = Duration::from_hours(1);
/// How long a run waits after one that the kernel refused or could not answer.
const RETRY: Duration = Duration::from_secs(5);

/// What others should know of a running proxy.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Services and endpoints are known, and the kernel has them.
    pub is_programmed: bool,
    /// What is wrong with objects, or with the kernel.
    pub problems: Problems,
    /// A kube-proxy runs beside this proxy, and has its rules.
    pub has_kube_proxy_begun: bool,
}

/// The proxy of one node.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    services: Services,
    keepers: Vec<Keeper>,
    socket: nft::Socket,
    monitor: AsyncMonitor,
    subscription: Subscription,
    flows: Flows,
    conntrack: conntrack::Kernel,
    /// Connections could not be read or deleted at the last attempt.
    conntrack_fails: bool,
    health: Health,
    metrics: Arc<Metrics>,
    checks: ServiceChecks,
    loopback: Loopback,
    /// The node's addresses that have node ports are others than those that health checks are on.
    has_other_addresses: bool,
    /// The listeners, who removes kube-proxy's rules, and who posts Events. They end with the proxy.
    tasks: JoinSet<()>,
    events: Events,
    /// The tables have been as desired.
    programmed: watch::Sender<bool>,
    /// When the first change came that is not in the kernel yet.
    changed_at: Option<Instant>,
    /// The tables' sets that the monitor knows.
    watched: Vec<Arc<Table>>,
    /// Service ports to resolve again.
    changed: BTreeSet<PortKey>,
    /// The families whose table the kernel does not have as it should be.
    unprogrammed: BTreeMap<Family, Problem>,
    status: watch::Sender<Status>,
    /// Changes with what is listed.
    changes: watch::Sender<u64>,
    /// Questions of `netd services`.
    questions: mpsc::Receiver<Question>,
    began: Instant,
    next_period: Instant,
    /// When to try again what failed.
    retry: Option<Instant>,
}

impl Proxy {
    /// Opens the sockets, in the network namespace of the calling thread and within a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open(config: Config, node_name: &str) -> Result<Self, AppError> {
        let mut monitor = AsyncMonitor::open()?;
        let subscription = monitor.subscribe(Filter::default());
        let now = Instant::now();
        let health = Health::new(2 * config.sync_period);
        let on_loopback = config.node_port_addresses.loopback();
        let metrics = Arc::new(Metrics::new(&on_loopback));
        // Before anything that a proxy which runs already has too.
        let socket = server::open().map_err(AppError::Another)?;
        let mut nftables = nft::Socket::open()?;
        let (port_free, is_free) = watch::channel(kube_proxy::is_port_free(&mut nftables));
        let reserved = Reserved { port: kube_proxy::METRICS, is_free };
        let mut tasks = health::listen(&config, &health, &metrics, &reserved)?;
        let (programmed, is_programmed) = watch::channel(false);
        let status = watch::Sender::<Status>::default();
        let of_tasks = status.clone();
        let begun = move || of_tasks.send_modify(|status| status.has_kube_proxy_begun = true);
        tasks.spawn(kube_proxy::follow(is_programmed, port_free, begun));
        let loopback = Loopback::start(on_loopback, &metrics).map_err(AppError::Loopback)?;
        let (changes, questions) = (watch::Sender::default(), mpsc::channel(1));
        if let Some(socket) = socket {
            tasks.spawn(server::serve(socket, questions.0, changes.subscribe()));
        } else {
            tracing::warn!("`netd services` cannot ask this proxy: another user's process has its socket");
        }
        Ok(Self {
            tasks,
            events: Events::default(),
            programmed,
            checks: ServiceChecks::new(health.clone()),
            loopback,
            has_other_addresses: false,
            health,
            metrics,
            changed_at: None,
            services: Services::new(node_name),
            keepers: Vec::new(),
            socket: nftables,
            monitor,
            subscription,
            flows: Flows::default(),
            conntrack: conntrack::Kernel::open()?,
            conntrack_fails: false,
            watched: Vec::new(),
            changed: BTreeSet::new(),
            unprogrammed: BTreeMap::new(),
            status,
            changes,
            questions: questions.1,
            began: now,
            next_period: now + PERIOD,
            retry: None,
            config,
        })
    }

    /// What the owners of Services should know becomes Events of the API server too. To be called within a tokio runtime.
    pub fn record_events(&mut self, server: &ApiServer) {
        self.events = Events::start(server, self.services.node_name(), &mut self.tasks);
    }

    /// What others should know, and each change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Follows a source until it ends, or `ended` does.
    pub async fn run(&mut self, mut events: mpsc::Receiver<Vec<Event>>, mut ended: Pin<&mut impl Future<Output = ()>>) {
        loop {
            let next = self.next();
            tokio::select! {
                () = &mut ended => return,
                received = events.recv() => {
                    let Some(received) = received else {
                        tracing::error!("the source sends no more events; ending so that a restart can follow it again");
                        return;
                    };
                    self.take(received);
                    while let Ok(more) = events.try_recv() {
                        self.take(more);
                    }
                }
                Some(question) = self.questions.recv() => {
                    // A client that is gone needs no answer.
                    let _ = question.send(self.listing());
                    continue;
                }
                () = self.loopback.changed() => {
                    self.log_problems();
                    self.changes.send_modify(|number| *number += 1);
                    continue;
                }
                () = self.monitor.changed(), if !self.keepers.is_empty() => {}
                () = sleep_until(next) => {}
            }
            if std::mem::take(&mut self.has_other_addresses) {
                self.checks.close().await;
            }
            if self.services.is_listed() {
                self.work();
            }
            self.publish();
        }
    }

    fn is_programmed(&self) -> bool {
        !self.keepers.is_empty() && self.unprogrammed.is_empty()
    }

    /// What is programmed, as one line of JSON.
    fn listing(&self) -> String {
        let on_loopback = |port: &ServicePort| self.loopback.state(port);
        let (problems, is_programmed) = (&self.status.borrow().problems, self.is_programmed());
        let listing = Listing::of(&self.services, problems, is_programmed, on_loopback);
        serde_json::to_string(&listing).unwrap_or_default()
    }

    fn publish(&self) {
        let is_programmed = self.is_programmed();
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.is_programmed, is_programmed) != is_programmed);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn next(&self) -> Instant {
        let repairs = self.keepers.iter().filter_map(Keeper::next_repair).map(|at| self.began + at);
        let again = self.flows.next().map(|at| self.began + at);
        repairs.chain(again).chain(self.retry).fold(self.next_period, Instant::min)
    }

    fn take(&mut self, events: Vec<Event>) {
        let mut changed = Changed::default();
        for event in events {
            match &event {
                Event::Set(object, _) => self.metrics.object(object.name().collection()),
                Event::Unset(name, _) => self.metrics.object(name.collection()),
                _ => {}
            }
            changed.add(self.services.apply(event));
        }
        if changed.node {
            self.health.set_node_leaving(self.services.node().is_some_and(|node| node.is_leaving));
        }
        if changed.node || changed.service_cidrs {
            for keeper in &mut self.keepers {
                let former = keeper.ruleset().settings();
                let settings = Settings::of(&self.config, former.family, &self.services);
                self.has_other_addresses |= settings.node_ports != former.node_ports;
                keeper.set_settings(settings);
            }
        }
        if changed.problems {
            self.log_problems();
        }
        if !changed.ports.is_empty() {
            self.changed_at.get_or_insert_with(Instant::now);
        }
        self.changed.extend(changed.ports);
    }

    /// Brings the kernel up to what is known.
    fn work(&mut self) {
        if self.keepers.is_empty() {
            self.begin();
        }
        self.notify();
        let now = Instant::now();
        if self.next_period <= now {
            self.next_period = now + PERIOD;
            self.keepers.iter_mut().for_each(Keeper::require_full);
        }
        self.retry = None;
        let changed = std::mem::take(&mut self.changed);
        let services: BTreeSet<ServiceName> = changed.iter().map(|key| key.name.service.clone()).collect();
        for keeper in &mut self.keepers {
            let family = keeper.ruleset().settings().family;
            let ports = changed.iter().filter(|key| key.family == family);
            let ports: BTreeMap<_, _> = ports.map(|key| (key.clone(), self.services.resolve(key))).collect();
            let of_flows = ports.iter().filter(|(key, _)| Flows::concern(key)).map(|(key, resolved)| {
                let serving = || self.services.endpoints(key).into_iter().filter(|state| state.endpoint.is_serving());
                let serves = |port: &Arc<_>| (Arc::clone(port), serving().map(|state| state.address).collect());
                (key.clone(), resolved.as_ref().map(|resolved| serves(&resolved.port)))
            });
            self.flows.update(of_flows);
            self.loopback.update(&ports);
            for (key, resolved) in &ports {
                self.metrics.resolved(key, resolved.as_ref());
            }
            if !ports.is_empty() {
                self.metrics.queued(family, Timestamp::now());
                keeper.update(&ports);
            }
            self.flows.forget(family, keeper.take_gone());
        }
        self.watch();
        let elapsed = self.now();
        let mut is_other = false;
        for keeper in &mut self.keepers {
            if !keeper.is_dirty() {
                continue;
            }
            let (family, is_full) = (keeper.ruleset().settings().family, keeper.needs_full());
            let began = Instant::now();
            let is_clean = match keeper.run(&mut self.socket, elapsed) {
                Ok(report) => {
                    for (op, error) in &report.failed {
                        tracing::warn!("the kernel refused `{op}`: {error}");
                    }
                    report.is_clean()
                }
                Err(error) => {
                    tracing::warn!("cannot read the table of Services: {error}");
                    false
                }
            };
            if is_clean {
                self.health.updated(family, Timestamp::now());
                self.metrics.elements(family, keeper.ruleset().sizes().iter());
                is_other |= self.unprogrammed.remove(&family).is_some();
            } else {
                self.health.pending(family);
                self.retry = Some(now + RETRY);
                is_other |= self.unprogrammed.insert(family, keeper.unprogrammed()).is_none();
            }
            let since_change = self.changed_at.map(|at| at.elapsed());
            let run = Run { family, is_full, is_clean, took: began.elapsed(), since_change };
            self.metrics.run(&run, Timestamp::now());
        }
        self.changed_at = None;
        if is_other {
            self.log_problems();
        }
        self.changes.send_modify(|number| *number += 1);
        if self.retry.is_none() {
            self.programmed.send_replace(true);
        }
        self.check_services(&services);
        self.clean_flows();
    }

    /// Answers load balancers that ask for the endpoints of Services.
    fn check_services(&mut self, changed: &BTreeSet<ServiceName>) {
        for name in changed {
            self.checks.set(name, self.services.health_check(name));
        }
        let (keepers, kernel) = (&self.keepers, &mut self.conntrack);
        let addresses = || {
            let settings = || keepers.iter().map(|keeper| keeper.ruleset().settings());
            if settings().all(|settings| settings.node_ports == NodePorts::All) {
                return None;
            }
            let mut of_family = |settings: &Settings| kernel.node_addresses(settings.family, &settings.node_ports);
            let addresses = settings().filter_map(|settings| of_family(settings).ok()).flatten();
            // An address of one link alone is nothing to listen on without the link.
            Some(addresses.filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect())
        };
        if self.checks.open(addresses) {
            self.log_problems();
        }
        if self.checks.has_failed() {
            self.retry.get_or_insert(Instant::now() + RETRY);
        }
    }

    /// Deletes flows that go to endpoints that are gone, where the new ones are in the kernel.
    fn clean_flows(&mut self) {
        let now = self.now();
        let mut failed = None;
        for keeper in self.keepers.iter().filter(|keeper| !keeper.is_dirty()) {
            let Settings { family, node_ports, .. } = keeper.ruleset().settings();
            match self.flows.clean(&mut self.conntrack, *family, node_ports, now) {
                Ok(deleted) if deleted > 0 => {
                    self.metrics.deleted_flows(*family, deleted);
                    tracing::debug!(deleted, "stale flows to Services");
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_some() {
            self.retry = Some(self.began + now + RETRY);
        }
        if let Some(error) = failed.as_ref().filter(|_| !self.conntrack_fails) {
            tracing::warn!("cannot delete connections to endpoints that are gone: {error}");
        }
        self.conntrack_fails = failed.is_some();
    }

    /// Everything is known: the tables are taken up as an earlier process left them.
    fn begin(&mut self) {
        for family in Family::BOTH {
            let mut keeper = Keeper::new(Settings::of(&self.config, family, &self.services));
            if let Err(error) = keeper.adopt(&mut self.socket) {
                tracing::warn!("cannot read the table of an earlier process: {error}");
            }
            self.keepers.push(keeper);
        }
        tracing::info!(ports = self.services.ports().count(), "Services and endpoints are known");
    }

    /// Logs and publishes what is wrong, where that has changed.
    fn log_problems(&mut self) {
        let mut now = self.services.problems();
        now.extend(self.checks.problems());
        now.extend(self.loopback.problems());
        now.extend(self.unprogrammed.values().cloned());
        let is_new = {
            let status = self.status.borrow();
            let changes = reconcile::problem::changes(&status.problems, &now);
            for problem in &changes.new {
                tracing::warn!("{problem}");
            }
            for problem in &changes.over {
                tracing::info!("over: {problem}");
            }
            self.events.record(&changes, &self.services);
            !(changes.new.is_empty() && changes.over.is_empty())
        };
        if is_new {
            self.status.send_modify(|status| status.problems = now);
        }
    }
}
