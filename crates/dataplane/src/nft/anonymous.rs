//! Maps that belong to one rule. The kernel keeps them as sets of the table. Pure.

use std::collections::BTreeMap;

use super::expression::{Statement, Verdict, VerdictMap};
use super::table::{Data, Set, SetFlags, Table};
use super::value::Key;

impl Table {
    /// Puts each anonymous map of verdicts into its rule, and takes it from the sets.
    pub(super) fn take_in_anonymous_maps(&mut self) {
        let Self { sets, chains, .. } = self;
        for statement in chains.values_mut().flat_map(|chain| &mut chain.rules).flat_map(|rule| &mut rule.statements) {
            let Statement::VerdictFrom { map, .. } = statement else { continue };
            let VerdictMap::Named(name) = map else { continue };
            let name = std::mem::take(name);
            *map = match sets.get(&name).and_then(Set::anonymous_verdicts) {
                Some(elements) => {
                    sets.remove(&name);
                    VerdictMap::Anonymous(elements)
                }
                None => VerdictMap::Named(name),
            };
        }
    }
}

impl Set {
    /// The elements of an anonymous map of verdicts; `None` for others.
    fn anonymous_verdicts(&self) -> Option<BTreeMap<Key, Verdict>> {
        self.flags.has(SetFlags::ANONYMOUS).then_some(())?;
        let verdicts = self.elements.iter().map(|(key, element)| match &element.data {
            Some(Data::Verdict(verdict)) => Some((key.clone(), verdict.clone())),
            _ => None,
        });
        verdicts.collect()
    }
}
