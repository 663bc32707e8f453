//! The daemon: takes the lease, follows the store, and reconciles until it is told to end.
//!
//! Nothing is changed before the store's first list is complete. At its end the data path stays as it is.

mod own;
pub(crate) mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane::kernel::Linux;
use dataplane::netlink::KernelError;
use dataplane::watch::Event;
use dataplane::words::{IfName, PerFamily};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, sleep_until};

use crate::config::flags::Flags;
use crate::conflist;
use crate::model::{Cluster, Lease, NodeName};
use crate::node::{self, Node, NodeError};
use crate::overlay::Outcome;
use crate::overlay::transition::Transition;
use crate::reconcile::{self, Report, Trigger, chain};
use crate::status::board::Board;
use crate::status::doors::{self, DoorError};
use crate::status::run::Run;
use crate::store::{LeaseRequest, Store, StoreError, StoreEvent};
use crate::subnet_env::{self, SubnetEnv};
use crate::watch::{self, Interest};
use switch::Switch;

/// How often everything is compared where `--iptables-resync` says nothing.
const RESYNC: Duration = Duration::from_secs(10);
/// The first and the longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why the daemon cannot begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be asked.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The node cannot take part.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No lease.
    #[error("cannot take this node's subnets")]
    Lease(#[source] StoreError),
    /// The kernel cannot be spoken to.
    #[error("cannot speak to the kernel: netd needs the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
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
    let board = Board::new();
    let _doors = doors::open(&flags, &board).await?;
    tokio::select! {
        started = Daemon::start(flags, store, board) => {
            let (mut daemon, events) = started?;
            daemon.follow(events, &mut ends).await;
        }
        () = ends.wait() => {}
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
    flags: Flags,
    store: S,
    kernel: Linux,
    node: Node,
    request: LeaseRequest,
    cluster: Cluster,
    /// Every node's lease as the store told it.
    leases: BTreeMap<NodeName, Lease>,
    /// The list that is being told, until it is complete.
    listing: Option<BTreeMap<NodeName, Lease>>,
    /// What a person has been told and is still so.
    told: BTreeSet<String>,
    ready: bool,
    /// What the plugin reads now.
    written: Option<SubnetEnv>,
    retry: Option<(Deadline, Duration)>,
    switch: Switch,
    interest: Interest,
    /// Notifications from here on are not of what the last run saw.
    kernel_events: mpsc::Receiver<Vec<Event>>,
    /// Where those who ask see how it goes.
    board: Board,
}

impl<S: Store> Daemon<S> {
    async fn start(flags: Flags, store: S, board: Board) -> Result<(Self, mpsc::Receiver<StoreEvent>), StartError> {
        let mut kernel = Linux::open()?;
        let kernel_events = watch::start()?;
        let node = Node::discover(&flags, &store, &mut kernel).await?;
        let stored = store.leases().await.map_err(StartError::Lease)?.into_iter().find(|lease| lease.node == node.name);
        let request = node.request(&node::links(&mut kernel)?, stored.as_ref(), &flags.subnet_file);
        let own = store.acquire(&request, &node.conf).await.map_err(StartError::Lease)?;
        let subnets: Vec<_> = own.subnets.iter().map(|(_, subnet)| subnet.to_string()).collect();
        tracing::info!(
            node = %node.name, subnets = subnets.join(" "), backend = %own.backend, interface = %node.underlay.ifname, mark = node.identity.mark,
            "lease taken"
        );
        board.update(|status, _| status.joined(&node, &own, None));
        let cluster = Cluster { own, peers: BTreeMap::new() };
        let events = store.watch();
        let (leases, listing, told) = (BTreeMap::new(), None, BTreeSet::new());
        let (ready, written, retry) = (false, None, None);
        let switch = Switch::resume(&flags.subnet_file);
        let (table, underlay) = (node.identity.table(), node.underlay.ifname.clone());
        let interest = Interest { table, underlay, indexes: BTreeSet::from([node.underlay.index]) };
        #[rustfmt::skip]
        let daemon = Self {
            flags, store, kernel, node, request, cluster, leases, listing, told, ready, written, retry, switch, interest, kernel_events,
            board,
        };
        Ok((daemon, events))
    }

    async fn follow(&mut self, mut events: mpsc::Receiver<StoreEvent>, ends: &mut Ends) {
        let every = self.flags.iptables_resync.map_or(RESYNC, |seconds| Duration::from_secs(seconds.get().into()));
        let mut periodic = Deadline::now() + every;
        let mut listed = false;
        loop {
            let retry = self.retry.map_or(periodic, |(at, _)| at);
            let trigger = tokio::select! {
                () = ends.wait() => return,
                event = events.recv() => {
                    let Some(event) = event else {
                        tracing::error!("the store stopped telling of changes; ending so that a restart can follow it again");
                        return;
                    };
                    if !self.take(event, &mut events).await {
                        continue;
                    }
                    if listed { Trigger::StoreChanged } else { Trigger::Startup }
                }
                Some(events) = self.kernel_events.recv() => {
                    if !listed || !events.iter().any(|event| self.interest.covers(event)) {
                        continue;
                    }
                    Trigger::KernelChanged
                }
                () = sleep_until(retry), if listed && self.retry.is_some() => Trigger::Retry,
                () = sleep_until(self.switch.next().unwrap_or(periodic)), if listed && self.switch.next().is_some() => {
                    self.switch.let_go(Deadline::now());
                    Trigger::Lingered
                }
                () = sleep_until(periodic), if listed => Trigger::Periodic,
            };
            listed = true;
            periodic = Deadline::now() + every;
            let complaint = self.follow_underlay().await;
            self.reconcile(trigger, complaint).await;
        }
    }

    /// Looks again at the interface that carries the network, and tells the peers where this node's address has changed.
    /// What keeps it from being used is for a person; the network stays as it was.
    async fn follow_underlay(&mut self) -> Option<String> {
        match self.node.follow_underlay(&self.flags, &mut self.kernel) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => return Some(format!("{}; the network stays as it was", chain(&error))),
        }
        let underlay = &self.node.underlay;
        tracing::info!(interface = %underlay.ifname, mtu = %underlay.mtu, "the interface between nodes has changed");
        self.interest.underlay = underlay.ifname.clone();
        let request =
            LeaseRequest { public: underlay.public, previous: self.cluster.own.subnets, ..self.request.clone() };
        if request.public == self.request.public {
            return None;
        }
        match self.store.acquire(&request, &self.node.conf).await {
            Ok(own) => {
                self.cluster.own.public = own.public;
                self.request = request;
                None
            }
            Err(error) => Some(format!("this node's new address cannot be told to its peers: {}", chain(&error))),
        }
    }

    /// Takes an event and all that wait behind it; true where there is something to reconcile and no list is half told.
    async fn take(&mut self, first: StoreEvent, events: &mut mpsc::Receiver<StoreEvent>) -> bool {
        let mut changed = false;
        let mut next = Some(first);
        while let Some(event) = next {
            changed |= self.take_one(event);
            next = events.try_recv().ok();
        }
        if !changed || self.listing.is_some() {
            return false;
        }
        self.keep_own_lease().await;
        true
    }

    fn take_one(&mut self, event: StoreEvent) -> bool {
        self.board.heard(&event);
        match event {
            StoreEvent::Init => self.listing = Some(BTreeMap::new()),
            StoreEvent::Lease(lease) => match &mut self.listing {
                Some(listing) => drop(listing.insert(lease.node.clone(), lease)),
                None => return self.leases.insert(lease.node.clone(), lease.clone()).as_ref() != Some(&lease),
            },
            StoreEvent::InitDone => {
                self.leases = self.listing.take().unwrap_or_default();
                return true;
            }
            StoreEvent::Removed(node) => return self.leases.remove(&node).is_some(),
            StoreEvent::NetConf(text) => return self.reconfigure(&text),
            StoreEvent::Trouble(what) => tracing::warn!("{what}; the network stays as it was last known"),
            StoreEvent::Recovered => tracing::info!("the store can be followed again"),
        }
        false
    }

    async fn reconcile(&mut self, trigger: Trigger, complaint: Option<String>) {
        let begun = Instant::now();
        let candidates = self.leases.values().cloned();
        let networks = &self.node.identity.networks;
        let (cluster, rejected) = Cluster::admit(self.cluster.own.clone(), candidates, Some(&self.cluster), networks);
        self.cluster = cluster;
        // What has been told up to here is in what is read now.
        while self.kernel_events.try_recv().is_ok() {}
        let transition = self.switch.transition();
        let planned = reconcile::plan(&mut self.kernel, &self.node, &self.cluster, &self.flags, transition);
        let (plan, outcome) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                self.board.gave_up(trigger, begun.elapsed(), &chain(&error));
                self.schedule_retry();
                return;
            }
        };
        let remembered = self.switch.remember(&outcome.loosens);
        let mut report = reconcile::apply(&mut self.kernel, plan, &outcome);
        self.look_after(outcome.desired.devices.keys());
        let peers = rejected.iter().map(|peer| format!("node {} is left out: {}", peer.node, peer.reason));
        report.complaints.extend(peers.chain(complaint).chain(self.switch.refused.clone()).chain(remembered.err()));
        if report.applied > 0 || !report.failed.is_empty() {
            tracing::info!(
                %trigger, changed = report.applied, failed = report.failed.len(), peers = self.cluster.peers.len(),
                ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                "reconciled"
            );
        }
        let told = self.tell_peers(&report, &outcome).await;
        report.complaints.extend(told.err());
        let took = begun.elapsed();
        let published = self.publish(&report, &outcome);
        report.complaints.extend(published.clone().err());
        let published = published == Ok(true);
        let (node, cluster, rejected) = (&self.node, &self.cluster, rejected.as_slice());
        let run =
            Run { trigger, took, full: true, node, cluster, rejected, outcome: &outcome, report: &report, published };
        self.board.reconciled(&run);
        let clean = report.is_clean() && published;
        self.tell(report.complaints);
        if clean {
            self.retry = None;
            // Nothing of ours is left there, and the network may be somebody else's by now.
            self.node.identity.former = PerFamily::none();
        } else {
            self.schedule_retry();
        }
    }

    /// From now on, changes to these devices count too.
    fn look_after<'d>(&mut self, devices: impl Iterator<Item = &'d IfName>) {
        let ours = devices.filter_map(|name| self.kernel.socket().link(name).ok().flatten()).map(|link| link.index);
        self.interest.indexes = ours.chain([self.node.underlay.index]).collect();
    }

    fn schedule_retry(&mut self) {
        let wait = self.retry.map_or(RETRY.0, |(_, last)| (last * 2).min(RETRY.1));
        self.retry = Some((Deadline::now() + wait, wait));
    }

    /// Tells what is new among the complaints, and what is over.
    fn tell(&mut self, complaints: BTreeSet<String>) {
        for new in complaints.difference(&self.told) {
            tracing::warn!("{new}");
        }
        for over in self.told.difference(&complaints) {
            tracing::info!("no longer: {over}");
        }
        self.told = complaints;
    }

    /// Writes what the plugin reads, once the network is ready and whenever it changes, and says so. True where nothing is
    /// left to write.
    fn publish(&mut self, report: &Report, outcome: &Outcome) -> Result<bool, String> {
        let env = self.subnet_env(outcome);
        if self.written.as_ref() == Some(&env) {
            return Ok(true);
        }
        if !self.ready && !report.is_ready() {
            return Ok(false);
        }
        subnet_env::write(&self.flags.subnet_file, &env).map_err(|error| chain(&error))?;
        self.install_conflist()?;
        self.written = Some(env);
        if !self.ready {
            self.ready = true;
            tracing::info!(peers = self.cluster.peers.len(), "ready");
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        Ok(true)
    }

    fn subnet_env(&self, outcome: &Outcome) -> SubnetEnv {
        SubnetEnv {
            networks: self.node.identity.networks,
            subnets: self.cluster.own.subnets,
            mtu: outcome.pod_mtu.unwrap_or(self.node.underlay.mtu),
            ip_masq: self.flags.ip_masq,
        }
    }

    fn install_conflist(&self) -> Result<(), String> {
        let Some(path) = conflist_path(&self.flags) else { return Ok(()) };
        match conflist::install(&path, &self.flags.subnet_file) {
            Ok(true) => tracing::info!(path = %path.display(), "CNI configuration installed"),
            Ok(false) => {}
            Err(error) => return Err(chain(&error)),
        }
        Ok(())
    }
}

/// What a change of the backend has left to do, as far as a file tells.
pub fn left_by_a_change(flags: &Flags) -> Transition {
    Transition { loosened: switch::loosened(&flags.subnet_file), ..Transition::default() }
}

/// Where the plugin's configuration goes, if it is to be written.
pub fn conflist_path(flags: &Flags) -> Option<PathBuf> {
    flags.cni_conf_dir.as_ref().map(|dir| dir.join(&flags.cni_conf_name))
}
