//! The notifications that a subscriber wants. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, RtnetlinkObject};
use crate::nft::{RawMessage, TableFilter, TableId};
use crate::types::Prefix;

/// The notifications that one subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Links, and the sysctls of which the kernel notifies.
    pub links: bool,
    /// Routes of the main table.
    pub routes: Routes,
    /// Policy rules.
    pub rules: bool,
    /// Addresses, neighbours and forwarding entries.
    pub devices: Devices,
    /// Tables of nftables.
    pub tables: Tables,
    /// The end of each transaction of nftables, whatever tables it changes.
    pub commits: bool,
}

/// The routes of the main table that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routes {
    /// Every route.
    All,
    /// Default routes and those to destinations within one of these prefixes; none where there is no prefix.
    Within(Vec<Prefix>),
}

/// The devices whose addresses, neighbours and forwarding entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Every device.
    All,
    /// Some devices.
    Only {
        /// Their indexes.
        indexes: BTreeSet<u32>,
        /// Devices with a higher index are wanted too: they were made after the caller looked. `u32::MAX` for none.
        newest: u32,
    },
}

/// The tables of nftables that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// Every table. Elements come without their keys, since the types of the keys are not known.
    All,
    /// Some tables.
    Only(BTreeMap<TableId, TableFilter>),
}

impl Default for Filter {
    /// No notification.
    fn default() -> Self {
        let devices = Devices::Only { indexes: BTreeSet::new(), newest: u32::MAX };
        let tables = Tables::Only(BTreeMap::new());
        Self { links: false, routes: Routes::Within(Vec::new()), rules: false, devices, tables, commits: false }
    }
}

impl Filter {
    /// Every notification.
    pub fn all() -> Self {
        Self {
            links: true,
            routes: Routes::All,
            rules: true,
            devices: Devices::All,
            tables: Tables::All,
            commits: true,
        }
    }

    /// The filter of a program for both: all that one of them wants.
    pub(super) fn or(mut self, other: &Self) -> Self {
        self.links |= other.links;
        self.rules |= other.rules;
        self.commits |= other.commits;
        match (&mut self.routes, &other.routes) {
            (Routes::Within(prefixes), Routes::Within(others)) => prefixes.extend(others),
            (routes, _) => *routes = Routes::All,
        }
        match (&mut self.devices, &other.devices) {
            (Devices::Only { indexes, newest }, Devices::Only { indexes: others, newest: other }) => {
                indexes.extend(others);
                *newest = (*newest).min(*other);
            }
            (devices, _) => *devices = Devices::All,
        }
        match (&mut self.tables, &other.tables) {
            (Tables::Only(tables), Tables::Only(others)) => {
                for (id, other) in others {
                    let both = tables.entry(id.clone()).or_insert_with(|| other.clone());
                    both.own_port = both.own_port.filter(|port| Some(*port) == other.own_port);
                }
            }
            (tables, _) => *tables = Tables::All,
        }
        self
    }

    /// True where the object of a notification is wanted.
    pub(super) fn wants(&self, object: &RtnetlinkObject) -> bool {
        let index = match object {
            RtnetlinkObject::Link(_) => return self.links,
            RtnetlinkObject::Route(route) => return self.wants_route(route.destination),
            RtnetlinkObject::Address(address) => address.index,
            RtnetlinkObject::Neighbour(entry) => entry.index,
            RtnetlinkObject::Fdb(entry) => entry.index,
        };
        match &self.devices {
            Devices::All => true,
            Devices::Only { indexes, newest } => index > *newest || indexes.contains(&index),
        }
    }

    /// True where routes to this destination are wanted.
    pub(super) fn wants_route(&self, destination: Prefix) -> bool {
        match &self.routes {
            Routes::All => true,
            Routes::Within(prefixes) if destination.is_default() => !prefixes.is_empty(),
            Routes::Within(prefixes) => prefixes.iter().any(|prefix| prefix.covers(destination)),
        }
    }

    /// Reads a message of nftables; `None` where it is not wanted.
    pub(super) fn nftables_event(&self, message: &[u8]) -> Option<Event> {
        let notification = RawMessage::of(message)?;
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
