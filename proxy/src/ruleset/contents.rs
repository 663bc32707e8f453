//! The elements of one set as a whole. Pure.
//!
//! They are held by their bytes, so that those of ten thousands of Services take some megabytes.

use std::collections::BTreeMap;

use dataplane::nft::{self, Elements, Key, Operation, RecordList, Records, Set, SetFlags, TableId};

use super::element::Presence;

/// So many elements one operation adds at most.
const MOST: usize = 5_000;

/// The elements of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Of a set without ranges.
    Bytes(Records),
    /// Of a set with ranges, which are few.
    Ranges(BTreeMap<Key, nft::Element>),
}

impl Contents {
    /// The elements that a set has whatever Services there are.
    pub fn of(set: Set) -> Self {
        Records::from_elements(&set, &set.elements).map_or_else(|_| Self::Ranges(set.elements), Self::Bytes)
    }

    pub(super) fn put(&mut self, key: Key, element: nft::Element) {
        match self {
            Self::Bytes(records) => {
                let put = records.insert_element(&key, &element);
                debug_assert_eq!(put, Ok(()), "{key} is of the set's types");
            }
            Self::Ranges(elements) => drop(elements.insert(key, element)),
        }
    }

    /// The keys whose elements in the kernel are not as here, and what the kernel has. Comments do not count.
    pub fn deviating(&self, present: &Self) -> Vec<(Key, Presence)> {
        match (self, present) {
            (Self::Bytes(desired), Self::Bytes(present)) => {
                let keys = reconcile::deviating(
                    present.iter().map(|record| (record.key(), record.data())),
                    desired.iter().map(|record| (record.key(), record.data())),
                );
                let deviation = |key: &[u8]| {
                    let observed = present.get_bytes(key).map(|record| record.to_element());
                    let (key, _) = observed.clone().or_else(|| Some(desired.get_bytes(key)?.to_element()))?;
                    Some((key, observed.map(|(_, element)| element.data)))
                };
                keys.into_iter().filter_map(deviation).collect()
            }
            (Self::Ranges(desired), Self::Ranges(present)) => {
                let keys =
                    reconcile::deviating(present.keys().map(|key| (key, ())), desired.keys().map(|key| (key, ())));
                keys.into_iter()
                    .map(|key| (key.clone(), present.get(key).map(|element| element.data.clone())))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The operations that add all of them, each with how many it adds.
    pub fn operations(self, table: &TableId, set: &str) -> Vec<(usize, Operation)> {
        let (table, set) = (table.clone(), set.to_owned());
        match self {
            Self::Bytes(records) => {
                let list = |records| RecordList { table: table.clone(), set: set.clone(), records };
                records.chunks(MOST).map(|part| (part.len(), Operation::AddRecords(list(part)))).collect()
            }
            Self::Ranges(elements) if elements.is_empty() => Vec::new(),
            Self::Ranges(elements) => {
                let flags = SetFlags::INTERVAL;
                vec![(elements.len(), Operation::AddElements(Elements { table, set, flags, elements }))]
            }
        }
    }
}
