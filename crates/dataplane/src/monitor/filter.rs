//! The notifications that a subscriber wants. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Event;
use super::rtnetlink::Scope;
use crate::nft::{RawMessage, TableFilter, TableId};
use crate::types::Prefix;

/// The notifications that one subscriber wants; none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Links, and the sysctls of which the kernel notifies.
    pub links: bool,
    /// Routes of the main table.
    pub routes: Routes,
    /// Addresses, neighbours and forwarding entries.
    pub devices: Devices,
    /// Tables of nftables.
    pub tables: Tables,
    /// The end of each transaction of nftables, whatever tables it changes.
    pub commits: bool,
}

impl Filter {
    /// Every notification.
    pub fn all() -> Self {
        Self { links: true, routes: Routes::All, devices: Devices::All, tables: Tables::All, commits: true }
    }
}

/// The routes of the main table that a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routes {
    /// Every route.
    All,
    /// Default routes and those to destinations within one of these prefixes; none where there is no prefix.
    Within(Vec<Prefix>),
}

impl Default for Routes {
    fn default() -> Self {
        Routes::Within(Vec::new())
    }
}

impl Routes {
    /// True where no route is wanted.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Routes::Within(prefixes) if prefixes.is_empty())
    }
}

/// The devices whose addresses, neighbours and forwarding entries a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Every device.
    All,
    /// Some devices.
    Only {
        /// Their indexes.
        indexes: BTreeSet<u32>,
        /// Devices with a higher index are wanted too: they were made after the subscriber looked. `u32::MAX` for none.
        newest: u32,
    },
}

impl Default for Devices {
    fn default() -> Self {
        Devices::Only { indexes: BTreeSet::new(), newest: u32::MAX }
    }
}

/// The tables of nftables that a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// Every table. Elements come without their keys, since the types of the keys are not known.
    All,
    /// Some tables.
    Only(BTreeMap<TableId, TableFilter>),
}

impl Default for Tables {
    fn default() -> Self {
        Tables::Only(BTreeMap::new())
    }
}

impl Filter {
    /// True where a notification of rtnetlink with this scope is wanted.
    pub(super) fn wants(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Link => self.links,
            Scope::Route(None) => !self.routes.is_none(),
            Scope::Route(Some(destination)) => match &self.routes {
                Routes::All => true,
                Routes::Within(prefixes) => prefixes.iter().any(|prefix| prefix.covers(*destination)),
            },
            Scope::Device(index) => match &self.devices {
                Devices::All => true,
                Devices::Only { indexes, newest } => index > newest || indexes.contains(index),
            },
        }
    }

    /// A notification of nftables as an event; `None` where it is not wanted.
    pub(super) fn event(&self, notification: &RawMessage<'_>) -> Option<Event> {
        if let Some(generation) = notification.generation() {
            return self.commits.then_some(Event::Committed { generation });
        }
        let change = match &self.tables {
            Tables::All => notification.change(&notification.table()?, &TableFilter::default()),
            Tables::Only(tables) => {
                let (id, filter) = tables.iter().find(|(id, _)| notification.is_of(id))?;
                notification.change(id, filter)
            }
        };
        change.map(Event::Table)
    }
}
