//! The kernel's tables of both families: they are taken up, watched, and run until they are as desired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::monitor::{AsyncMonitor, Event as KernelEvent, Filter, Subscription, Tables as WatchedTables};
use dataplane::nft::{self, Table};
use dataplane::types::Family;
use reconcile::Domain;
use tokio::time::Instant;

use super::AppError;
use crate::health::Run;
use crate::keeper::{Keeper, Rules};
use crate::problem::Problem;
use crate::ruleset::Settings;

/// The tables, and what is known of them in the kernel.
#[derive(Debug)]
pub(super) struct Tables {
    keepers: Vec<Keeper>,
    socket: nft::Socket,
    monitor: AsyncMonitor,
    subscription: Subscription,
    /// The tables' sets that the monitor knows.
    watched: Vec<Arc<Table>>,
    /// The families whose table the kernel does not have as it should be.
    unprogrammed: BTreeMap<Family, Problem>,
}

impl Tables {
    /// Opens the sockets, in the network namespace of the calling thread and within a tokio runtime.
    pub(super) fn open() -> Result<Self, AppError> {
        let mut monitor = AsyncMonitor::open()?;
        let subscription = monitor.subscribe(Filter::default());
        let socket = nft::Socket::open()?;
        let (watched, unprogrammed) = (Vec::new(), BTreeMap::new());
        Ok(Self { keepers: Vec::new(), socket, monitor, subscription, watched, unprogrammed })
    }

    /// The socket for nftables.
    pub(super) fn socket(&mut self) -> &mut nft::Socket {
        &mut self.socket
    }

    /// True before [`Self::begin`].
    pub(super) fn is_empty(&self) -> bool {
        self.keepers.is_empty()
    }

    /// Takes up the tables as an earlier process left them.
    pub(super) fn begin(&mut self, settings: impl Fn(Family) -> Settings) {
        for family in Family::BOTH {
            let mut keeper = Keeper::new(settings(family));
            if let Err(error) = keeper.adopt(&mut self.socket) {
                tracing::warn!("cannot read the table of an earlier process: {error}");
            }
            self.keepers.push(keeper);
        }
    }

    /// The keepers of the tables.
    pub(super) fn keepers(&self) -> &[Keeper] {
        &self.keepers
    }

    /// The keepers of the tables, to be changed.
    pub(super) fn keepers_mut(&mut self) -> &mut [Keeper] {
        &mut self.keepers
    }

    /// The settings of each table.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.keepers.iter().map(|keeper| keeper.ruleset().settings())
    }

    /// True where the kernel has all tables as they should be.
    pub(super) fn is_programmed(&self) -> bool {
        !self.keepers.is_empty() && self.unprogrammed.is_empty()
    }

    /// What the kernel does not have.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.unprogrammed.values().cloned()
    }

    /// When a table is to be repaired: time since the begin of the process.
    pub(super) fn next_repair(&self) -> Option<Duration> {
        self.keepers.iter().filter_map(Keeper::next_repair).min()
    }

    /// Returns when the kernel has notifications; never before [`Self::begin`].
    pub(super) async fn changed(&mut self) {
        if self.is_empty() {
            std::future::pending::<()>().await;
        } else {
            self.monitor.changed().await;
        }
    }

    /// Takes the kernel's notifications.
    pub(super) fn notify(&mut self) {
        let events = match self.monitor.drain(self.subscription) {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!("cannot read the kernel's notifications: {error}");
                vec![KernelEvent::Overrun]
            }
        };
        for event in events {
            match event {
                KernelEvent::Table(change) => {
                    let keeper = self.keepers.iter_mut().find(|keeper| keeper.ruleset().id() == change.table);
                    if let Some(keeper) = keeper {
                        keeper.notify(&change);
                    }
                }
                KernelEvent::Overrun => self.keepers.iter_mut().for_each(Keeper::lose),
                _ => {}
            }
        }
    }

    /// Wants to be notified of the tables as they will be after the next run.
    pub(super) fn watch(&mut self) {
        let skeletons: Vec<Arc<Table>> =
            self.keepers.iter().map(|keeper| Arc::clone(keeper.ruleset().skeleton())).collect();
        if skeletons.len() == self.watched.len()
            && skeletons.iter().zip(&self.watched).all(|(one, other)| Arc::ptr_eq(one, other))
        {
            return;
        }
        self.watched = skeletons;
        let port = self.socket.port();
        let tables = self.keepers.iter().map(|keeper| keeper.filter(port)).collect();
        self.monitor.set_filter(self.subscription, Filter { tables: WatchedTables::Only(tables), ..Filter::default() });
    }

    /// Brings the tables that are not so to what is desired, and gives the runs. True where the problems are others than before.
    pub(super) fn run(&mut self, now: Duration) -> (Vec<Run>, bool) {
        let (mut runs, mut is_other) = (Vec::new(), false);
        for keeper in self.keepers.iter_mut().filter(|keeper| keeper.is_dirty()) {
            let mut run = Run::new(keeper.family(), keeper.needs_full());
            let began = Instant::now();
            match keeper.run(&mut self.socket, now) {
                Ok(report) => {
                    for (op, error) in &report.failed {
                        tracing::warn!("the kernel refused `{op}`: {error}");
                        run.refused_removal |= Rules::is_removal(op);
                    }
                    run.is_clean = report.is_clean();
                }
                Err(error) => tracing::warn!("cannot read the table of Services: {error}"),
            }
            run.took = began.elapsed();
            is_other |= if run.is_clean {
                self.unprogrammed.remove(&run.family).is_some()
            } else {
                self.unprogrammed.insert(run.family, keeper.unprogrammed()).is_none()
            };
            runs.push(run);
        }
        (runs, is_other)
    }
}
