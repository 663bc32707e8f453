//! What the kernel says of the tables.

use std::sync::Arc;

use dataplane::monitor::{Event as KernelEvent, Filter, Tables};
use dataplane::nft::Table;

use super::Proxy;
use crate::keeper::Keeper;

impl Proxy {
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
        self.monitor.set_filter(self.subscription, Filter { tables: Tables::Only(tables), ..Filter::default() });
    }
}
