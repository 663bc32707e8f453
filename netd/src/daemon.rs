//! The daemon: takes the lease, follows the store, and reconciles until it is told to end.
//!
//! Nothing is changed before the store's first list is complete. At its end the data path stays as it is.

mod full;
mod own;
mod pace;
mod publish;
pub(crate) mod switch;
mod tell;
mod warned;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dataplane::kernel::Linux;
use dataplane::netlink::KernelError;
use dataplane::notifications::Notifications;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Deadline, sleep_until};

use crate::bridge::Bridge;
use crate::config::flags::Flags;
use crate::conflist::{self, Template};
use crate::model::{Cluster, Lease, NodeName};
use crate::node::{self, Node, NodeError};
use crate::observe::Quiet;
use crate::overlay::transition::Transition;
use crate::patience::Patience;
use crate::reconcile::{Trigger, chain};
use crate::status::Trouble;
use crate::status::board::Board;
use crate::status::doors::{self, DoorError};
use crate::store::{LeaseRequest, Store, StoreError, StoreEvent};
use crate::subnet_env::SubnetEnv;
use crate::upkeep::Upkeep;
use pace::Pace;
pub use publish::conflist_path;
use switch::Switch;
use tell::Untold;
use warned::{Fault, Warned};

/// Why the daemon cannot begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be asked.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The node cannot take part.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It does not know who it is.
    #[error("cannot tell which node this is")]
    Name(#[source] StoreError),
    /// No lease.
    #[error("cannot take this node's subnets")]
    Lease(#[source] StoreError),
    /// The kernel cannot be spoken to.
    #[error("cannot speak to the kernel: netd needs the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// The operator's CNI configuration is not one.
    #[error(transparent)]
    Conflist(#[from] conflist::SourceError),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The store ended before it had told what there is.
    #[error("the store stopped telling what there is")]
    StoreEnded,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(flags: Flags, store: impl Store) -> Result<(), StartError> {
    let mut ends = Ends::listen().map_err(StartError::Signals)?;
    let template = conflist::template(flags.cni.cni_conf_source.as_deref(), &flags.subnet_file)?;
    let board = Board::new();
    let _doors = doors::open(&flags, &board).await?;
    let (standing, shown) = (store.standing(), board.clone());
    tokio::select! {
        started = Daemon::start(flags, store, board, template) => {
            let (mut daemon, events) = started?;
            daemon.follow(events, &mut ends).await;
            daemon.tell_rest();
        }
        () = show(&shown, standing) => {}
        () = ends.wait() => {}
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!("ending; the data path stays as it is");
    Ok(())
}

/// Shows what the store waits for, as long as it does.
async fn show(board: &Board, standing: Option<watch::Receiver<Option<String>>>) {
    if let Some(mut standing) = standing {
        while standing.changed().await.is_ok() {
            let what = standing.borrow_and_update().clone();
            board.update(|status, now| {
                let since = status.store.trouble.as_ref().map_or(now, |former| former.since);
                status.store.trouble = what.map(|what| Trouble { what, since });
            });
        }
    }
    std::future::pending::<()>().await;
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
    flags: Flags,
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
    told: BTreeSet<String>,
    /// Why this node's lease is not in the store as it should be, by the last try to put it back.
    unkept: Option<Fault>,
    /// What those who look after the cluster know of that.
    warned: Warned,
    ready: bool,
    /// What the plugin reads now.
    written: Option<SubnetEnv>,
    switch: Switch,
    pace: Pace,
    patience: Patience,
    bridge: Bridge,
    /// What times are counted from.
    began: Deadline,
    notifications: Notifications,
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
    board: Board,
    /// The CNI configuration to install.
    template: Template,
}

impl<S: Store> Daemon<S> {
    async fn start(
        mut flags: Flags,
        store: S,
        board: Board,
        template: Template,
    ) -> Result<(Self, mpsc::Receiver<StoreEvent>), StartError> {
        if flags.node_name.is_none() {
            flags.node_name = store.node_name().await.map_err(StartError::Name)?;
        }
        let mut kernel = Linux::open()?;
        let notifications = Notifications::open()?;
        let node = Node::discover(&flags, &store, &mut kernel).await?;
        let stored = store.lease(&node.name).await.map_err(StartError::Lease)?;
        let request = node.request(&node::links(&mut kernel)?, stored.as_ref(), &flags.subnet_file);
        let own = store.acquire(&request, &node.conf).await.map_err(StartError::Lease)?;
        let subnets: Vec<_> = own.subnets.iter().map(|(_, subnet)| subnet.to_string()).collect();
        tracing::info!(
            node = %node.name, subnets = subnets.join(" "), backend = %own.backend, interface = %node.underlay.ifname, mark = node.identity.mark,
            "lease taken"
        );
        board.update(|status, _| {
            status.store.trouble = None;
            status.joined(&node, &own, None);
        });
        let cluster = Cluster { own, peers: BTreeMap::new() };
        let events = store.watch();
        let (leases, listing, told) = (BTreeMap::new(), None, BTreeSet::new());
        let (ready, written, behind, quiet, listed) = (false, None, false, None, false);
        let (news, asked, upkeep) = (BTreeSet::new(), None, Upkeep::default());
        let switch = Switch::resume(&flags.subnet_file);
        let every = flags.iptables_resync.map(|seconds| Duration::from_secs(seconds.get().into()));
        let pace = Pace::new(every, Deadline::now());
        let (patience, bridge, began) = (Patience::default(), Bridge::default(), Deadline::now());
        #[rustfmt::skip]
        let daemon = Self {
            flags, store, kernel, node, request, cluster, leases, listing, told, ready, written, switch, pace, patience, bridge, began, notifications,
            behind, upkeep, quiet, listed, news, asked, untold: Untold::default(), board, template, unkept: None, warned: Warned::default(),
        };
        Ok((daemon, events))
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
                () = self.notifications.changed(), if self.listed => {}
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
    async fn follow_underlay(&mut self) -> (bool, Option<String>) {
        match self.node.follow_underlay(&self.flags, &mut self.kernel) {
            Ok(false) => return (false, None),
            Ok(true) => {}
            Err(error) => return (false, Some(format!("{}; the network stays as it was", chain(&error)))),
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
                (true, Some(format!("this node's new address cannot be told to its peers: {}", chain(&error))))
            }
        }
    }

    /// Takes an event and all that wait behind it.
    async fn take(&mut self, first: StoreEvent, events: &mut mpsc::Receiver<StoreEvent>) {
        let mut next = Some(first);
        while let Some(event) = next {
            self.take_one(event);
            next = events.try_recv().ok();
        }
        let concerns_us = self.news.contains(&self.cluster.own.node) || self.asked.is_some();
        if concerns_us && self.listed && self.listing.is_none() {
            self.keep_own_lease().await;
        }
    }

    fn take_one(&mut self, event: StoreEvent) {
        self.board.heard(&event);
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
                let differs = |node: &&NodeName| former.get(*node) != self.leases.get(*node);
                self.news.extend(former.keys().chain(self.leases.keys()).filter(differs).cloned());
                if !std::mem::replace(&mut self.listed, true) {
                    self.asked = Some(Trigger::Startup);
                }
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
            StoreEvent::Trouble(what) => tracing::warn!("{what}; the network stays as it was last known"),
            StoreEvent::Recovered => tracing::info!("the store can be followed again"),
        }
    }
}

/// What a change of the backend has left to do, as far as a file tells.
pub fn left_by_a_change(flags: &Flags) -> Transition {
    Transition { loosened: switch::loosened(&flags.subnet_file), ..Transition::default() }
}
