//! The chains of a table, and the table without some of them. Pure.
//!
//! A base chain begins where its hook says and ends with its policy. Another chain begins with an entry that holds its name, which no
//! packet gets to, and ends with a `RETURN`. An entry with a name ends the table as well.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Entry, HOOKS, NAME_BYTES, SHORT, Target, u32_at};
use crate::nft::attributes::text;
use crate::types::Family;

/// The base chains by `NF_INET_*`.
const NAMES: [&str; HOOKS] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A chain of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// True where packets get to it by a hook, and not by rules alone.
    pub is_base: bool,
    /// The names of the chains that its rules lead to, in their order.
    pub targets: Vec<String>,
}

/// An entry, as far as its place matters.
#[derive(Debug)]
struct ListedEntry {
    place: usize,
    length: usize,
    /// The number of the chain that it is of; none for the end of the table.
    chain: Option<usize>,
    /// The number of the chain that it leads to.
    target: Option<usize>,
    /// Where a verdict lies that is the place of another entry, and that place.
    verdict: Option<(usize, usize)>,
}

/// A table in parts.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) chains: Vec<Chain>,
    entries: Vec<ListedEntry>,
    hooks: Hooks,
}

/// What a table has beside its entries: the hooks that there are, as bits, and the places of the first entry and of the policy of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hooks {
    pub(super) valid: u32,
    pub(super) entry: [u32; HOOKS],
    pub(super) underflow: [u32; HOOKS],
}

/// A table without what was removed.
#[derive(Debug)]
pub(super) struct Remainder {
    pub(super) hooks: Hooks,
    pub(super) entries: Vec<u8>,
    /// The former numbers of the entries that are left, in order.
    pub(super) kept: Vec<usize>,
}

impl Hooks {
    fn read(info: &[u8]) -> Option<Self> {
        let number = |place: usize| u32_at(info, NAME_BYTES + 4 * place);
        let mut hooks = Self { valid: number(0)?, entry: [0; HOOKS], underflow: [0; HOOKS] };
        for hook in 0..HOOKS {
            (hooks.entry[hook], hooks.underflow[hook]) = (number(1 + hook)?, number(1 + HOOKS + hook)?);
        }
        Some(hooks)
    }

    fn is_valid(&self, hook: usize) -> bool {
        self.valid & (1 << hook) != 0
    }

    /// The base chain that begins here.
    fn chain_at(&self, place: usize) -> Option<&'static str> {
        (0..HOOKS).find(|hook| self.is_valid(*hook) && self.entry[*hook] as usize == place).map(|hook| NAMES[hook])
    }
}

impl Listing {
    /// Reads a table: `info` is a `struct ipt_getinfo`, `bytes` what follows the head of a `struct ipt_get_entries`.
    ///
    /// # Errors
    /// With what makes no sense.
    pub(super) fn of(family: Family, info: &[u8], bytes: &[u8]) -> Result<Self, &'static str> {
        let hooks = Hooks::read(info).ok_or(SHORT)?;
        let (mut chains, mut entries) = (Vec::new(), Vec::new());
        // The chains by the place of their first rule.
        let mut starts = BTreeMap::new();
        let mut place = 0;
        while place < bytes.len() {
            let entry = Entry::at(family, bytes, place).ok_or(SHORT)?;
            let end = place + entry.length;
            if let Some(name) = hooks.chain_at(place) {
                chains.push(Chain { name: name.to_owned(), is_base: true, targets: Vec::new() });
            } else if entry.target == Target::Head && end < bytes.len() {
                let name = bytes[place..end].get(entry.data..).and_then(text).ok_or(SHORT)?;
                starts.insert(end, chains.len());
                chains.push(Chain { name, is_base: false, targets: Vec::new() });
            }
            let chain = chains.len().checked_sub(1).filter(|_| entry.target != Target::Head || end < bytes.len());
            let verdict = match entry.target {
                Target::Verdict(to) => usize::try_from(to).ok().map(|to| (place + entry.data, to)),
                _ => None,
            };
            entries.push(ListedEntry { place, length: entry.length, chain, target: None, verdict });
            place = end;
        }
        for entry in &mut entries {
            // A rule without a target goes on at the next entry.
            let Some((_, to)) = entry.verdict.filter(|(_, to)| *to != entry.place + entry.length) else { continue };
            let target = *starts.get(&to).ok_or("a rule leads to no chain")?;
            entry.target = Some(target);
            let name = chains[target].name.clone();
            chains[entry.chain.ok_or("a rule is in no chain")?].targets.push(name);
        }
        Ok(Self { chains, entries, hooks })
    }

    /// The table without these chains and the rules that lead to them. Base chains stay.
    ///
    /// # Errors
    /// With what makes no sense.
    pub(super) fn without(&self, names: &BTreeSet<String>, bytes: &[u8]) -> Result<Remainder, &'static str> {
        let is_removed = |chain: usize| !self.chains[chain].is_base && names.contains(&self.chains[chain].name);
        let stays = |entry: &ListedEntry| !entry.chain.into_iter().chain(entry.target).any(is_removed);
        // Where each entry comes to be; where one is removed, the next one that stays.
        let (mut places, mut next) = (BTreeMap::new(), 0);
        for entry in &self.entries {
            places.insert(entry.place, next);
            next += if stays(entry) { entry.length } else { 0 };
        }
        let moved = |place: usize| {
            let moved = places.get(&place).and_then(|place| u32::try_from(*place).ok());
            moved.ok_or("a place is none of an entry")
        };
        let mut remainder = Remainder { hooks: self.hooks, entries: Vec::with_capacity(next), kept: Vec::new() };
        for hook in (0..HOOKS).filter(|hook| self.hooks.is_valid(*hook)) {
            remainder.hooks.entry[hook] = moved(self.hooks.entry[hook] as usize)?;
            remainder.hooks.underflow[hook] = moved(self.hooks.underflow[hook] as usize)?;
        }
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, entry)| stays(entry)) {
            let start = remainder.entries.len();
            remainder.entries.extend(&bytes[entry.place..entry.place + entry.length]);
            if let Some((place, to)) = entry.verdict {
                let place = start + place - entry.place;
                remainder.entries[place..place + 4].copy_from_slice(&moved(to)?.to_ne_bytes());
            }
            remainder.kept.push(number);
        }
        Ok(remainder)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
