mod arrange;
mod cases;
mod gate;
mod history;
mod kernel;
mod loopback;

use dataplane::nft::{Element, Table};

use super::{Change, Ruleset};

/// The table after a change.
fn apply(mut table: Table, change: &Change, ruleset: &Ruleset) -> Table {
    if change.skeleton {
        let skeleton = Table::clone(ruleset.skeleton());
        table.chains = skeleton.chains;
        for (name, set) in skeleton.sets {
            table.sets.entry(name).or_insert(set);
        }
    }
    for (element, (former, desired)) in &change.elements {
        let set = table.sets.get_mut(&element.set.to_string()).expect("the set of a changed element");
        let present = set.elements.remove(&element.key).map(|present| present.data);
        assert_eq!(present, *former, "{element:?}");
        if let Some(data) = desired {
            set.elements.insert(element.key.clone(), Element { data: data.clone(), ..Element::default() });
        }
        assert_eq!(ruleset.desired(element), *desired, "{element:?}");
    }
    table
}
