//! The table depends on what there is, not on how it came to be.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;

use dataplane::nft::{Data, Key, Records, SetFlags, Table};
use proptest::prelude::*;

use super::super::Ruleset;
use super::super::adopt;
use super::super::element::Front;
use super::apply;
use crate::fixtures::settings;
use crate::model::{Event, PortKey};
use crate::services::Services;
use crate::services::tests::{any_object, name_of};
use crate::topology::Resolved;

/// What a table says: the endpoints of each destination without their order, and all other elements. The order is that of their coming, and
/// room for what was there once stays.
#[derive(Debug, PartialEq)]
struct Meaning {
    endpoints: BTreeMap<Front, [BTreeSet<SocketAddr>; 2]>,
    elements: BTreeMap<String, BTreeMap<Key, Option<Data>>>,
}

impl Meaning {
    fn of(table: &Table) -> Self {
        let read = |_: &str, set: &_| Ok::<_, Infallible>(Records::of(set));
        let Ok(pools) = adopt::pools(table, read);
        let set = |endpoints: Box<[SocketAddr]>| endpoints.into_iter().collect();
        let is_numbered = |name: &str| name.ends_with("-endpoints") || name.contains("-slot-");
        let sets = table
            .sets
            .iter()
            .filter(|(name, set)| !is_numbered(name) && !set.flags.has(SetFlags::DYNAMIC) && !set.elements.is_empty());
        let elements = sets.map(|(name, set)| {
            let elements = set.elements.iter().map(|(key, element)| (key.clone(), element.data.clone()));
            (name.clone(), elements.collect())
        });
        Self {
            endpoints: pools
                .into_iter()
                .map(|(front, pools)| (front, [set(pools.cluster), set(pools.local)]))
                .collect(),
            elements: elements.collect(),
        }
    }
}

fn resolve(services: &Services, keys: impl IntoIterator<Item = PortKey>) -> BTreeMap<PortKey, Option<Resolved>> {
    keys.into_iter().map(|key| (key.clone(), services.resolve(&key))).collect()
}

fn whole(services: &Services) -> BTreeMap<PortKey, Option<Resolved>> {
    let keys: Vec<_> = services.ports().map(|port| port.key()).collect();
    resolve(services, keys)
}

/// A state and its table, which takes each event by itself, or several at once as a larger change.
struct World {
    services: Services,
    ruleset: Ruleset,
}

impl World {
    fn new() -> Self {
        Self { services: Services::new("n1"), ruleset: Ruleset::new(settings()) }
    }

    fn take(&mut self, events: impl IntoIterator<Item = Event>, is_large: bool) {
        let mut changed = BTreeSet::new();
        for event in events {
            changed.extend(self.services.apply(event).ports);
        }
        let ports = resolve(&self.services, changed);
        if is_large {
            self.ruleset.load(&ports);
            return;
        }
        let before = self.ruleset.table();
        let change = self.ruleset.update(&ports);
        assert_eq!(apply(before, &change, &self.ruleset), self.ruleset.table(), "{change:?}");
    }
}

/// What the table of a new process says that finds these Services.
fn from_scratch(services: &Services) -> Meaning {
    let mut ruleset = Ruleset::new(settings());
    ruleset.load(&whole(services));
    Meaning::of(&ruleset.table())
}

fn sizes(ruleset: &Ruleset) -> BTreeMap<String, i64> {
    let sizes = ruleset.sizes().iter().filter(|(_, size)| **size != 0);
    sizes.map(|(set, size)| (set.to_string(), *size)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Change by change, in larger steps and from nothing: the tables say the same.
    #[test]
    fn a_table_that_grew_says_what_one_from_scratch_says(
        batches in prop::collection::vec((prop::collection::vec(any_object(), 1..5), any::<bool>()), 1..12),
    ) {
        let mut world = World::new();
        for (events, is_large) in batches {
            world.take(events, is_large);
            prop_assert_eq!(Meaning::of(&world.ruleset.table()), from_scratch(&world.services));
            let mut scratch = Ruleset::new(settings());
            scratch.load(&whole(&world.services));
            prop_assert_eq!(sizes(&world.ruleset), sizes(&scratch));
        }
    }

    /// The last event of each object counts, in whatever order the objects come.
    #[test]
    fn any_order_of_events_ends_in_the_same_table(
        events in prop::collection::vec((any_object(), any::<bool>()), 0..40),
        seeds in prop::collection::vec(any::<u64>(), 40),
    ) {
        let (mut one, mut other) = (World::new(), World::new());
        let mut last = BTreeMap::new();
        for (event, is_large) in events {
            last.insert(name_of(&event), event.clone());
            one.take([event], is_large);
        }
        let mut shuffled: Vec<_> = last.into_values().zip(seeds).collect();
        shuffled.sort_by_key(|(_, seed)| *seed);
        for (event, seed) in shuffled {
            other.take([event], seed % 2 == 0);
        }
        prop_assert_eq!(Meaning::of(&one.ruleset.table()), Meaning::of(&other.ruleset.table()));
    }
}
