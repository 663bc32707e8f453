//! Ops as the kernel's transactions.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::nft::{self, Elements, Operation, SetFlags, TableId};

use super::Op;
use crate::ruleset::SetName;

/// So many elements one transaction adds or removes at most: the kernel lets nobody else change a ruleset meanwhile.
const MOST: usize = nft::ELEMENTS_PER_TRANSACTION;

/// Carries out ops, many in one transaction, which `apply` gives to the kernel. Where the kernel refuses a transaction, each of its ops is
/// carried out by itself, so that one that is refused does not stop the others.
pub(super) fn carry_out(
    mut apply: impl FnMut(&[Operation]) -> Result<(), nft::Error>,
    ops: &[Op],
) -> Vec<Result<(), nft::Error>> {
    let mut results: Vec<_> = ops.iter().map(|_| Ok(())).collect();
    let [first, last] = steps(ops);
    for places in parts(ops, &first).chain(parts(ops, &last)) {
        let Err(error) = apply(&batch(places.iter().map(|place| &ops[*place]))) else { continue };
        if let [place] = places {
            results[*place] = Err(error);
        } else {
            for place in places {
                results[*place] = apply(&ops[*place].operations());
            }
        }
    }
    results
}

/// The places in as many parts as there are transactions.
fn parts<'p>(ops: &[Op], mut rest: &'p [usize]) -> impl Iterator<Item = &'p [usize]> {
    std::iter::from_fn(move || {
        let mut weight = 0;
        let fits = |place: &&usize| {
            weight += ops[**place].weight();
            weight <= MOST
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (part, later) = rest.split_at_checked(count)?;
        rest = later;
        Some(part)
    })
}

/// The places of ops that add or change, and of those that remove. A packet is on its way through several sets while the kernel takes a
/// transaction: where a Service moved from one set to another in that transaction, the packet could find the Service in neither. So the
/// Service is removed from where it was once it is where it will be.
///
/// A range is removed with the addition of others: they may overlap.
fn steps(ops: &[Op]) -> [Vec<usize>; 2] {
    let added: BTreeSet<SetName> = ops.iter().filter_map(added).collect();
    let is_last = |op: &Op| match op {
        Op::Element { element, flags, desired: None, .. } => {
            !flags.has(SetFlags::INTERVAL) || !added.contains(&element.set)
        }
        _ => false,
    };
    let (last, first) = (0..ops.len()).partition(|place| is_last(&ops[*place]));
    [first, last]
}

/// The set to which an op adds.
fn added(op: &Op) -> Option<SetName> {
    match op {
        Op::Element { element, desired: Some(_), .. } => Some(element.set),
        _ => None,
    }
}

/// The operations of several ops as one list: what makes room, then all removals of elements, then all additions, set by set.
pub(super) fn batch<'o>(ops: impl Iterator<Item = &'o Op>) -> Vec<Operation> {
    type Sets = BTreeMap<(TableId, SetName), Elements>;
    let (mut operations, mut removals, mut additions) = (Vec::new(), Sets::new(), Sets::new());
    for op in ops {
        let Op::Element { table, element, flags, is_there, desired } = op else {
            operations.extend(op.operations());
            continue;
        };
        let put = |sets: &mut Sets, held| {
            let empty = || Elements {
                table: table.clone(),
                set: element.set.to_string(),
                flags: *flags,
                elements: BTreeMap::new(),
            };
            let set = sets.entry((table.clone(), element.set)).or_insert_with(empty);
            set.elements.insert(element.key.clone(), held);
        };
        if *is_there {
            put(&mut removals, nft::Element::default());
        }
        if let Some(desired) = desired {
            put(&mut additions, desired.clone());
        }
    }
    operations.extend(removals.into_values().map(Operation::DeleteElements));
    operations.extend(additions.into_values().map(Operation::AddElements));
    operations
}

#[cfg(test)]
mod tests;
