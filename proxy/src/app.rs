//! The proxy: events of a source become changes of the kernel's tables.
//!
//! One task, which waits for the source, the kernel or the clock, and does then the least that answers it. Nothing is programmed before
//! Services and endpoints are known whole: a table with half of them would refuse the other half.

mod flows;
mod outputs;
mod pending;
mod schedule;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use apiserver::ApiServer;
use dataplane::error::KernelError;
use dataplane::nft;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use self::flows::FlowCleaner;
use self::outputs::Outputs;
use self::pending::Pending;
use self::schedule::Schedule;
use self::tables::Tables;
use crate::config::Config;
use crate::events::Events;
use crate::health::{self, ListenError, Reserved, ServiceChecks};
use crate::keeper::Keeper;
use crate::kube_proxy;
use crate::listing::Listing;
use crate::listing::server::{self, Question};
use crate::loopback::Loopback;
use crate::model::{Event, ServiceName, ServicePort};
use crate::problem::Problems;
use crate::ruleset::Settings;
use crate::services::{Changed, Services};

/// Why the proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No socket to the kernel.
    #[error("cannot speak to the kernel: netd-proxy needs the capability NET_ADMIN in the node's network namespace")]
    Kernel(#[from] KernelError),
    /// No socket for nftables.
    #[error("cannot speak to nftables: netd-proxy needs the capability NET_ADMIN and a kernel with nf_tables")]
    Nftables(#[from] nft::Error),
    /// Another proxy has the same tables.
    #[error("another netd-proxy, or a netd with --proxy, runs in this network namespace: stop it first")]
    Another(#[source] std::io::Error),
    /// No thread for node ports on loopback.
    #[error("cannot start the thread for node ports on loopback")]
    Loopback(#[source] std::io::Error),
    /// A listener cannot be opened, and `bindAddressHardFail` says that this is an error.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

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
    pending: Pending,
    tables: Tables,
    flows: FlowCleaner,
    checks: ServiceChecks,
    loopback: Loopback,
    outputs: Outputs,
    schedule: Schedule,
    /// Questions of `netd services`.
    questions: mpsc::Receiver<Question>,
    /// The listeners, who removes kube-proxy's rules, and who posts Events. They end with the proxy.
    tasks: JoinSet<()>,
}

impl Proxy {
    /// Opens the sockets, in the network namespace of the calling thread and within a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel offers no such sockets.
    pub fn open(config: Config, node_name: &str) -> Result<Self, AppError> {
        let outputs = Outputs::new(&config);
        // Before anything that a proxy which runs already has too.
        let socket = server::open().map_err(AppError::Another)?;
        let tables = Tables::open()?;
        let (port_free, is_free) = watch::channel(kube_proxy::is_port_free());
        let reserved = Reserved { port: kube_proxy::METRICS, is_free };
        let mut tasks = health::listen(&config, &outputs.health, &outputs.metrics, &reserved)?;
        let of_tasks = outputs.status.clone();
        let begun = move || of_tasks.send_modify(|status| status.has_kube_proxy_begun = true);
        tasks.spawn(kube_proxy::follow(outputs.programmed.subscribe(), port_free, begun));
        let loopback = Loopback::start(config.node_port_addresses.loopback(), &outputs.metrics);
        let (asked, questions) = mpsc::channel(1);
        if let Some(socket) = socket {
            tasks.spawn(server::serve(socket, asked, outputs.changes.subscribe()));
        } else {
            tracing::warn!("`netd services` cannot ask this proxy: another user's process has its socket");
        }
        Ok(Self {
            services: Services::new(node_name),
            pending: Pending::new(Timestamp::now()),
            tables,
            flows: FlowCleaner::open()?,
            checks: ServiceChecks::new(outputs.health.clone()),
            loopback: loopback.map_err(AppError::Loopback)?,
            outputs,
            schedule: Schedule::default(),
            questions,
            tasks,
            config,
        })
    }

    /// What the owners of Services should know becomes Events of this API server, and the metrics show the requests to it. To be called
    /// within a tokio runtime.
    pub fn set_server(&mut self, server: &ApiServer) {
        self.outputs.metrics.show_requests(server.metrics());
        self.outputs.events = Events::start(server, self.services.node_name(), &mut self.tasks);
    }

    /// What others should know, and each change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.outputs.status.subscribe()
    }

    /// Follows a source until it ends, or `ended` does.
    pub async fn run(&mut self, mut events: mpsc::Receiver<Vec<Event>>, mut ended: Pin<&mut impl Future<Output = ()>>) {
        loop {
            let next = self.schedule.next(self.tables.next_repair().into_iter().chain(self.flows.next()));
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
                    self.outputs.changes.send_modify(|number| *number += 1);
                    continue;
                }
                () = self.tables.changed() => {}
                () = sleep_until(next) => {}
            }
            self.checks.close_stale().await;
            if self.services.is_listed() {
                self.work();
            }
            self.outputs.publish(self.tables.is_programmed());
        }
    }

    /// What is programmed, as one line of JSON.
    fn listing(&self) -> String {
        let problems = &self.outputs.status.borrow().problems;
        let on_loopback = |port: &ServicePort| self.loopback.state(port);
        let listing = Listing::of(&self.services, problems, self.tables.is_programmed(), on_loopback);
        serde_json::to_string(&listing).unwrap_or_default()
    }

    fn take(&mut self, events: Vec<Event>) {
        let mut changed = Changed::default();
        for event in events {
            let last_change = event.last_change();
            match &event {
                Event::Set(object, _) => self.outputs.metrics.object(object.name().collection()),
                Event::Unset(name, _) => self.outputs.metrics.object(name.collection()),
                _ => {}
            }
            let of_event = self.services.apply(event);
            self.pending.endpoints_changed(of_event.ports.iter(), last_change);
            changed.add(of_event);
        }
        if changed.node {
            self.outputs.health.set_node_leaving(self.services.node().is_some_and(|node| node.is_leaving));
        }
        if changed.node || changed.service_cidrs {
            for keeper in self.tables.keepers_mut() {
                let settings = Settings::of(&self.config, keeper.family(), &self.services);
                if settings.node_ports != keeper.ruleset().settings().node_ports {
                    self.checks.set_stale();
                }
                keeper.set_settings(settings);
            }
        }
        if changed.problems {
            self.log_problems();
        }
        self.pending.extend(changed.ports);
    }

    /// Brings the kernel up to what is known.
    fn work(&mut self) {
        if self.tables.is_empty() {
            self.tables.begin(|family| Settings::of(&self.config, family, &self.services));
            tracing::info!(ports = self.services.ports().count(), "Services and endpoints are known");
        }
        self.tables.notify();
        if self.schedule.begin() {
            self.tables.keepers_mut().iter_mut().for_each(Keeper::require_full);
        }
        let changed = self.pending.take();
        let services: BTreeSet<ServiceName> = changed.iter().map(|key| key.name.service.clone()).collect();
        for keeper in self.tables.keepers_mut() {
            let family = keeper.family();
            let ports = changed.iter().filter(|key| key.family == family);
            let ports: BTreeMap<_, _> = ports.map(|key| (key.clone(), self.services.resolve(key))).collect();
            self.flows.update(&ports, &self.services);
            self.loopback.update(&ports);
            self.outputs.update(family, &ports, Timestamp::now());
            if !ports.is_empty() {
                keeper.update(&ports);
            }
        }
        self.flows.forget(&mut self.tables);
        self.tables.watch();
        let (mut runs, is_other) = self.tables.run(self.schedule.elapsed());
        for run in &mut runs {
            let now = Timestamp::now();
            self.pending.complete(run, now);
            self.outputs.run(run, now);
            for keeper in self.tables.keepers().iter().filter(|keeper| keeper.family() == run.family && run.is_clean) {
                self.outputs.metrics.elements(run.family, keeper.ruleset().sizes().iter());
            }
        }
        self.pending.end(&runs);
        if runs.iter().all(|run| run.is_clean) {
            self.outputs.metrics.nothing_pending();
            self.outputs.programmed.send_replace(true);
        } else {
            self.schedule.retry();
        }
        if is_other {
            self.log_problems();
        }
        self.outputs.changes.send_modify(|number| *number += 1);
        self.check_services(&services);
        if !self.flows.clean(&self.tables, self.schedule.elapsed(), &self.outputs.metrics) {
            self.schedule.retry();
        }
    }

    /// Answers load balancers that ask for the endpoints of Services.
    fn check_services(&mut self, changed: &BTreeSet<ServiceName>) {
        for name in changed {
            self.checks.set(name, self.services.health_check(name));
        }
        if self.checks.open(|| self.flows.node_addresses(&self.tables)) {
            self.log_problems();
        }
        if self.checks.has_failed() {
            self.schedule.retry();
        }
    }

    /// Logs and publishes what is wrong, where that has changed.
    fn log_problems(&self) {
        let failures = || self.checks.failures(self.services.node_name());
        let mut now = self.services.problems();
        now.extend(failures().map(|(_, problem)| problem));
        now.extend(self.tables.problems());
        now.extend(self.loopback.problems());
        let owners = || {
            let conflicts = self.services.conflicts().map(|conflict| (conflict.problem(), conflict.loser.name.service));
            conflicts.chain(failures().map(|(name, problem)| (problem, name.clone()))).collect()
        };
        self.outputs.set_problems(now, owners);
    }
}
