//! The daemon: takes the lease, follows the store, and reconciles until it is told to end.
//!
//! Nothing is changed before the store's first list is complete. At its end the data path stays as it is.

mod full;
mod own;
mod pace;
mod publish;
mod start;
mod switch;
mod tell;
mod warned;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane::kernel::Linux;
use dataplane::monitor::{AsyncMonitor, Filter, Subscription};
use network::chain;
use network::model::{Cluster, Lease, NodeName};
use network::observe::Quiet;
use network::patience::Patience;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, sleep_until};

use crate::bridge::Bridge;
use crate::config::Config;
use crate::conflist::Template;
use crate::node::Node;
use crate::problem::{Kind, Problem, Problems};
use crate::reconcile::Trigger;
use crate::status::listeners::Listeners;
use crate::status::publisher::StatusPublisher;
use crate::store::{LeaseRequest, Store, StoreEvent};
use crate::subnet_env::SubnetEnv;
use crate::upkeep::Upkeep;
use pace::Pace;
use start::Outset;
pub use start::StartError;
use switch::Switch;
use tell::Untold;
use warned::Warned;

/// Runs until SIGTERM or SIGINT.
pub async fn run(mut config: Config, store: impl Store) -> Result<(), StartError> {
    let mut ends = Ends::listen().map_err(StartError::Signals)?;
    let board = StatusPublisher::new();
    let outset = tokio::select! {
        outset = start::find(&mut config, &store, &board) => Some(outset),
        never = start::show(&board, store.startup_status()) => match never {},
        () = ends.wait() => None,
    };
    if let Some(outset) = outset {
        let outset = match outset {
            Ok(outset) => outset,
            Err(error) => {
                store.notify_before_exit(config.node_name.as_ref(), error.problem()).await;
                return Err(error);
            }
        };
        let events = store.watch();
        let mut daemon = Daemon::new(config, store, board, outset);
        daemon.follow(events, &mut ends).await;
        daemon.tell_rest();
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!("ending; the data path stays as it is");
    Ok(())
}

/// The signals that end the daemon.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

struct Daemon<S> {
    config: Config,
    store: S,
    kernel: Linux,
    node: Node,
    request: LeaseRequest,
    cluster: Cluster,
    /// Every node's lease as the store told it.
    leases: BTreeMap<NodeName, Arc<Lease>>,
    /// The list that is being told, until it is complete.
    listing: Option<BTreeMap<NodeName, Arc<Lease>>>,
    /// What a person has been told and is still so.
    told: Problems,
    /// Why this node's lease is not in the store as it should be, by the last try to put it back.
    unkept: Option<Problem>,
    /// What those who look after the cluster know of that.
    warned: Warned,
    ready: bool,
    /// What the plugin reads now.
    written: Option<SubnetEnv>,
    switch: Switch,
    pace: Pace,
    patience: Patience,
    bridge: Bridge,
    /// What times are counted from: before the peers' records were read.
    began: Deadline,
    monitor: AsyncMonitor,
    subscription: Subscription,
    /// Notifications wait that have not been read.
    behind: bool,
    upkeep: Upkeep,
    /// What the last look saw.
    quiet: Option<Quiet>,
    /// The first list of the store is complete.
    listed: bool,
    /// The nodes of which the store has told something that has not been acted on.
    news: BTreeSet<NodeName>,
    /// Who has asked for a full run.
    asked: Option<Trigger>,
    /// Small changes that the log has not told yet.
    untold: Untold,
    /// Where those who ask see how it goes.
    board: StatusPublisher,
    /// Open as long as it runs.
    _doors: Listeners,
    /// The CNI configuration to install.
    template: Template,
}

impl<S: Store> Daemon<S> {
    fn new(config: Config, store: S, board: StatusPublisher, outset: Outset) -> Self {
        let Outset { began, kernel, mut monitor, node, request, own, template, doors } = outset;
        let subscription = monitor.subscribe(Filter::all());
        let switch = Switch::resume(&config.subnet_file, &own);
        let cluster = Cluster { own, peers: BTreeMap::new() };
        let (leases, listing, told) = (BTreeMap::new(), None, Problems::new());
        let (ready, written, behind, quiet, listed) = (false, None, false, None, false);
        let (news, asked, upkeep) = (BTreeSet::new(), None, Upkeep::default());
        let pace = Pace::new(config.resync, Deadline::now());
        let (patience, bridge) = (Patience::default(), Bridge::default());
        #[rustfmt::skip]
        let daemon = Self {
            config, store, kernel, node, request, cluster, leases, listing, told, ready, written, switch, pace, patience, bridge, began, monitor, subscription,
            behind, upkeep, quiet, listed, news, asked, untold: Untold::default(), board, template, unkept: None, warned: Warned::default(),
            _doors: doors,
        };
        daemon
    }

    async fn follow(&mut self, mut events: mpsc::Receiver<StoreEvent>, ends: &mut Ends) {
        loop {
            tokio::select! {
                () = ends.wait() => return,
                event = events.recv() => {
                    let Some(event) = event else {
                        tracing::error!("the store stopped telling of changes; ending so that a restart can follow it again");
                        return;
                    };
                    self.take(event, &mut events).await;
                }
                () = self.monitor.changed(), if self.listed => {}
                () = sleep_until(self.next()), if self.listed => {}
            }
            if self.listed && self.listing.is_none() {
                self.work().await;
            }
        }
    }

    /// Looks again at the interface that carries the network, and tells the peers where this node's address has changed; true
    /// where something about it has.
    /// What keeps it from being used is for a person; the network stays as it was.
    async fn follow_underlay(&mut self) -> (bool, Option<Problem>) {
        match self.node.follow_underlay(&self.config.underlay, &mut self.kernel) {
            Ok(false) => return (false, None),
            Ok(true) => {}
            Err(error) => {
                let detail = format!("cannot be followed, the network stays as it was: {}", chain(&error));
                return (false, Some(Problem::new(Kind::UnderlayUnusable, "the interface between nodes", detail)));
            }
        }
        let underlay = &self.node.underlay;
        tracing::info!(interface = %underlay.ifname, mtu = %underlay.mtu, "the interface between nodes has changed");
        let request =
            LeaseRequest { public: underlay.public, previous: self.cluster.own.subnets, ..self.request.clone() };
        if request.public == self.request.public {
            return (true, None);
        }
        match self.store.acquire(&request, &self.node.conf).await {
            Ok(own) => {
                self.cluster.own.public = own.public;
                self.request = request;
                (true, None)
            }
            Err(error) => {
                let detail = format!("cannot be published for its peers: {}", chain(&error));
                (true, Some(Problem::new(Kind::PeersNotTold, "this node's new address", detail)))
            }
        }
    }

    /// Takes an event and all that wait behind it.
    async fn take(&mut self, first: StoreEvent, events: &mut mpsc::Receiver<StoreEvent>) {
        let mut told = vec![first];
        told.extend(std::iter::from_fn(|| events.try_recv().ok()));
        self.board.record_events(&told);
        for event in told {
            self.take_one(event);
        }
        let concerns_us = self.news.contains(&self.cluster.own.node) || self.asked.is_some();
        if concerns_us && self.listed && self.listing.is_none() {
            self.keep_own_lease().await;
        }
    }

    fn take_one(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Init => self.listing = Some(BTreeMap::new()),
            StoreEvent::Lease(lease) => {
                let node = lease.node.clone();
                if let Some(listing) = &mut self.listing {
                    listing.insert(node, lease);
                } else if self.leases.insert(node.clone(), lease.clone()).as_ref() != Some(&lease) {
                    self.news.insert(node);
                }
            }
            StoreEvent::InitDone => {
                let former = std::mem::replace(&mut self.leases, self.listing.take().unwrap_or_default());
                if !std::mem::replace(&mut self.listed, true) {
                    // That looks at all of them.
                    self.asked = Some(Trigger::Startup);
                    return;
                }
                let differs = |node: &&NodeName| former.get(*node) != self.leases.get(*node);
                self.news.extend(former.keys().chain(self.leases.keys()).filter(differs).cloned());
            }
            StoreEvent::Removed(node) => {
                if self.leases.remove(&node).is_some() || node == self.cluster.own.node {
                    self.news.insert(node);
                }
            }
            StoreEvent::NetConf(text) => {
                if self.reconfigure(&text) {
                    // What was wanted before says nothing any more.
                    self.upkeep = Upkeep::default();
                    self.ask(Trigger::StoreChanged);
                }
            }
            StoreEvent::Unavailable(what) => tracing::warn!("{what}; the network stays as it was last known"),
            StoreEvent::Available => tracing::info!("the store can be followed again"),
        }
    }
}
