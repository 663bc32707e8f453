//! Clients with affinity: those of an endpoint that gets another number go with it, and those of one that is gone are forgotten.
//!
//! The sets of clients are filled by packets. The kernel remembers a client by the number of its endpoint. Without these moves, the
//! clients of an endpoint that has left would belong to the one that has got its number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use dataplane::nft::{self, Data, Elements, Key, Operation, Set, SetFlags, Table, TableId, Value};

use crate::ruleset::{Element, Presence, SetName};

/// A client that is about to be forgotten is left alone: removing one that has just expired would be refused.
const MARGIN: Duration = Duration::from_secs(1);

/// For each number by which clients are known, and each place that an endpoint no longer has, the endpoint's new place; `None` where the
/// endpoint is gone.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<u32, BTreeMap<u32, Option<u32>>>);

impl Moves {
    /// The moves that follow from elements that change, with what they were: maps from destinations to the endpoint of a place. `drawn`
    /// gives the number of the clients and the endpoints as they will be. The clients of a destination that no Service has any more
    /// are left to their timeout.
    pub(super) fn of<'e, 'r>(
        changed: impl Iterator<Item = (&'e Element, &'e Presence)> + Clone,
        drawn: impl Fn(&Element) -> Option<(u32, &'r [SocketAddr])>,
    ) -> Self {
        // A destination that another Service had before.
        let former = changed.clone().filter_map(|(Element { set, key }, former)| match (set, former) {
            (SetName::Affinity(lookup, ..), Some(Some(number))) => Some(((*lookup, key), number)),
            _ => None,
        });
        let former: BTreeMap<_, &Data> = former.collect();
        let mut moves: BTreeMap<u32, BTreeMap<u32, Option<u32>>> = BTreeMap::new();
        for (element, observed) in changed {
            let (SetName::Slot(lookup, place), Some(Some(endpoint))) = (element.set, observed) else { continue };
            let Some((number, endpoints)) = drawn(element) else { continue };
            let is_others = |former: &&Data| **former != Data::Values(vec![Value::Priority(number)]);
            if former.get(&(lookup, &element.key)).is_some_and(is_others) {
                continue;
            }
            let is_it = |one: &SocketAddr| {
                *endpoint == Data::Values(vec![Value::Address(one.ip()), Value::Service(one.port())])
            };
            let target = endpoints.iter().position(is_it).and_then(|place| u32::try_from(place).ok());
            if target != Some(place) {
                moves.entry(number).or_default().insert(place, target);
            }
        }
        Self(moves)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The new place of the endpoint that had `place`, for a client's element; `None` where the endpoint is gone.
    fn target(&self, place: u32, Key(key): &Key) -> Option<u32> {
        let moves = match key.get(1).map(|part| &part.first) {
            Some(Value::Priority(number)) => self.0.get(number),
            _ => None,
        };
        moves.and_then(|moves| moves.get(&place).copied()).unwrap_or(Some(place))
    }

    /// The places that lose clients.
    fn places(&self) -> BTreeSet<u32> {
        self.0.values().flat_map(|moves| moves.keys().copied()).collect()
    }
}

/// The operations that move clients, each with the time that it still has. `read` gives the elements of a set.
///
/// # Errors
/// Those of `read`.
pub(super) fn operations<E>(
    table: &TableId,
    moves: &Moves,
    mut read: impl FnMut(&str) -> Result<BTreeMap<Key, nft::Element>, E>,
) -> Result<Vec<Operation>, E> {
    type Sets = BTreeMap<SetName, BTreeMap<Key, nft::Element>>;
    let (mut removed, mut added) = (Sets::new(), Sets::new());
    for place in moves.places() {
        let set = SetName::Clients(place);
        for (key, client) in read(&set.to_string())?.into_iter().filter(|(_, client)| lasts(client)) {
            let target = moves.target(place, &key);
            if target == Some(place) {
                continue;
            }
            removed.entry(set).or_default().insert(key.clone(), nft::Element::default());
            if let Some(target) = target {
                added.entry(SetName::Clients(target)).or_default().insert(key, client);
            }
        }
    }
    let elements = |(set, elements): (SetName, _)| Elements {
        table: table.clone(),
        set: set.to_string(),
        flags: SetFlags(SetFlags::DYNAMIC.0 | SetFlags::TIMEOUT.0),
        elements,
    };
    let removed = removed.into_iter().map(|set| Operation::DeleteElements(elements(set)));
    Ok(removed.chain(added.into_iter().map(|set| Operation::AddElements(elements(set)))).collect())
}

/// Reads the clients of a table. `read` gives the elements of a set.
///
/// # Errors
/// Those of `read`.
pub(super) fn read<E>(
    table: &mut Table,
    mut read: impl FnMut(&str, &Set) -> Result<BTreeMap<Key, nft::Element>, E>,
) -> Result<(), E> {
    for place in 0.. {
        let name = SetName::Clients(place).to_string();
        let Some(set) = table.sets.get_mut(&name) else { break };
        set.elements = read(&name, set)?;
    }
    Ok(())
}

/// Takes the clients of `present` into `desired`, a table that is made anew.
pub(super) fn keep(present: &Table, desired: &mut Table, moves: &Moves) {
    for place in 0.. {
        let Some(set) = present.sets.get(&SetName::Clients(place).to_string()) else { break };
        for (key, client) in set.elements.iter().filter(|(_, client)| lasts(client)) {
            let target = moves.target(place, key).map(SetName::Clients);
            let target = target.and_then(|target| desired.sets.get_mut(&target.to_string()));
            if let Some(target) = target.filter(|target| target.key == set.key) {
                target.elements.insert(key.clone(), client.clone());
            }
        }
    }
}

fn lasts(client: &nft::Element) -> bool {
    client.usage.expires.is_some_and(|expires| expires > MARGIN)
}
