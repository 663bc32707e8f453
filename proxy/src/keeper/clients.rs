//! Clients with affinity: those of an endpoint that gets another number go with it, and those of one that is gone are forgotten.
//!
//! The sets of clients are filled by packets. The kernel remembers a client by the number of its endpoint. Without these moves, the
//! clients of an endpoint that has left would belong to the one that has got its number.

use std::collections::BTreeMap;
use std::time::Duration;

use dataplane::nft::{self, Data, Elements, Interval, Key, Operation, Set, SetFlags, Table, TableId};

use crate::ruleset::{Element, Lookup, Presence, SetName};

/// A client that is about to be forgotten is left alone: removing one that has just expired would be refused.
const MARGIN: Duration = Duration::from_secs(1);

/// A destination that is looked up, without the client.
type Destination = (Lookup, Vec<Interval>);

/// For each destination and number that an endpoint no longer has, its new number; `None` where the endpoint is gone.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Destination, BTreeMap<u32, Option<u32>>>);

impl Moves {
    /// The moves that follow from elements that change: maps from destinations to the endpoint of a number.
    pub(super) fn of<'e>(slots: impl Iterator<Item = (&'e Element, Presence, Presence)>) -> Self {
        #[derive(Default)]
        struct Numbers {
            former: BTreeMap<u32, Data>,
            desired: BTreeMap<Data, u32>,
        }
        let mut changed: BTreeMap<Destination, Numbers> = BTreeMap::new();
        for (Element { set, key: Key(key) }, former, desired) in slots {
            let SetName::Slot(lookup, number) = *set else { continue };
            let numbers = changed.entry((lookup, key.clone())).or_default();
            numbers.former.extend(former.flatten().map(|endpoint| (number, endpoint)));
            numbers.desired.extend(desired.flatten().map(|endpoint| (endpoint, number)));
        }
        let moves = changed.into_iter().map(|(destination, Numbers { former, desired })| {
            let moves = former.into_iter().map(|(number, endpoint)| (number, desired.get(&endpoint).copied()));
            (destination, moves.filter(|(from, to)| Some(*from) != *to).collect::<BTreeMap<_, _>>())
        });
        Self(moves.filter(|(_, moves)| !moves.is_empty()).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The new number of the endpoint that had `number`, for a client's element; `None` where the endpoint is gone.
    fn target(&self, lookup: Lookup, number: u32, Key(key): &Key) -> Option<u32> {
        let moves = key.get(1..).and_then(|destination| self.0.get(&(lookup, destination.to_vec())));
        moves.and_then(|moves| moves.get(&number).copied()).unwrap_or(Some(number))
    }

    /// The sets of clients that lose some.
    fn sets(&self) -> impl Iterator<Item = (Lookup, u32)> {
        let all = self.0.iter().flat_map(|((lookup, _), moves)| moves.keys().map(|number| (*lookup, *number)));
        all.collect::<std::collections::BTreeSet<_>>().into_iter()
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
    for (lookup, number) in moves.sets() {
        let set = SetName::Clients(lookup, number);
        for (key, client) in read(&set.to_string())?.into_iter().filter(|(_, client)| lasts(client)) {
            let target = moves.target(lookup, number, &key);
            if target == Some(number) {
                continue;
            }
            removed.entry(set).or_default().insert(key.clone(), nft::Element::default());
            if let Some(target) = target {
                added.entry(SetName::Clients(lookup, target)).or_default().insert(key, client);
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
    for lookup in Lookup::ALL {
        for number in 0.. {
            let name = SetName::Clients(lookup, number).to_string();
            let Some(set) = table.sets.get_mut(&name) else { break };
            set.elements = read(&name, set)?;
        }
    }
    Ok(())
}

/// Takes the clients of `present` into `desired`, a table that is made anew.
pub(super) fn keep(present: &Table, desired: &mut Table, moves: &Moves) {
    for lookup in Lookup::ALL {
        for number in 0.. {
            let Some(set) = present.sets.get(&SetName::Clients(lookup, number).to_string()) else { break };
            for (key, client) in set.elements.iter().filter(|(_, client)| lasts(client)) {
                let target = moves.target(lookup, number, key).map(|number| SetName::Clients(lookup, number));
                let place = target.and_then(|target| desired.sets.get_mut(&target.to_string()));
                if let Some(place) = place.filter(|place| place.key == set.key) {
                    place.elements.insert(key.clone(), client.clone());
                }
            }
        }
    }
}

fn lasts(client: &nft::Element) -> bool {
    client.usage.expires.is_some_and(|expires| expires > MARGIN)
}
