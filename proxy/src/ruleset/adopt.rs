//! What a table of an earlier process tells: the numbers of endpoints, and the room that there is. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dataplane::nft::{Data, Key, Records, Set, Table, Value};

use super::element::{Element, Front, Pools};
use super::name::{Lookup, Pool, SetName};

/// The endpoints of each destination, in the order of their numbers.
pub(super) type Adopted = BTreeMap<Front, Pools>;

/// The sets of a table that Services make necessary.
pub(super) fn sets(table: &Table) -> impl Iterator<Item = SetName> {
    table.sets.keys().filter_map(|name| {
        Lookup::ALL.into_iter().find_map(|lookup| of_lookup(lookup, name.strip_prefix(&lookup.to_string())?))
    })
}

/// The set whose name ends so, behind the name of its lookup.
fn of_lookup(lookup: Lookup, rest: &str) -> Option<SetName> {
    let rest = rest.strip_prefix('-')?;
    match rest.split_once("-for-") {
        Some((count, time)) => {
            let seconds = time.strip_suffix('s')?.parse().ok()?;
            Some(SetName::Affinity(lookup, count.parse().ok()?, Duration::from_secs(seconds)))
        }
        None => rest.parse().ok().filter(|count| *count > 1).map(|count| SetName::Count(lookup, count)),
    }
}

/// The endpoints that are in a table; `read` gives the elements of a map.
pub(super) fn pools<E>(
    table: &Table,
    mut read: impl FnMut(&str, &Set) -> Result<Option<Records>, E>,
) -> Result<Adopted, E> {
    let mut numbered: BTreeMap<(Front, Pool), BTreeMap<u32, SocketAddr>> = BTreeMap::new();
    let mut take = |set: SetName, lookup: Lookup, slot: Option<u32>| -> Result<(), E> {
        let name = set.to_string();
        let Some(definition) = table.sets.get(&name) else { return Ok(()) };
        let Some(records) = read(&name, definition)? else { return Ok(()) };
        for (key, element) in records.iter().map(|record| record.to_element()) {
            let number = slot.or_else(|| number(&key));
            let Some(endpoint) = element.data.as_ref().and_then(endpoint) else { continue };
            if let (Some(front), Some(number)) = (Element { set, key }.front(), number) {
                numbered.entry((front, lookup.pool)).or_default().insert(number, endpoint);
            }
        }
        Ok(())
    };
    for lookup in Lookup::ALL {
        take(SetName::Single(lookup), lookup, Some(0))?;
        take(SetName::Endpoints(lookup), lookup, None)?;
        for slot in 0.. {
            let set = SetName::Slot(lookup, slot);
            if !table.sets.contains_key(&set.to_string()) {
                break;
            }
            take(set, lookup, Some(slot))?;
        }
    }
    let mut adopted = Adopted::new();
    for ((front, pool), endpoints) in numbered {
        let endpoints = endpoints.into_values().collect();
        let pools = adopted.entry(front).or_default();
        match pool {
            Pool::Cluster => pools.cluster = endpoints,
            Pool::Local => pools.local = endpoints,
        }
    }
    Ok(adopted)
}

/// The number at the end of a key.
fn number(Key(key): &Key) -> Option<u32> {
    match key.last()?.first {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

fn endpoint(data: &Data) -> Option<SocketAddr> {
    match data {
        Data::Values(values) => match values.as_slice() {
            [Value::Address(address), Value::Service(port)] => Some(SocketAddr::new(*address, *port)),
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}
