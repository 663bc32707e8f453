//! The engine: which keys are dirty, where the observed values differ from the desired ones, and a run over a plan.
//!
//! Pure. The desired values stay where they are: the engine is given those of the keys in question. The observed value of a key is
//! its desired value, unless the key is among the deviations; there is no second copy of what agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Display;
use std::iter::Peekable;
use std::time::Duration;

use crate::backoff::{Deferred, RepairBackoff, RunKind};
use crate::key::{Keyed, ObjectKey};
use crate::report::Report;

/// What a program keeps true: its keys and the ops that change objects.
pub trait Domain {
    /// The keys.
    type Key: ObjectKey;
    /// One change. Prints as a person would carry it out.
    type Op: Clone + Display;
    /// Why a change was refused.
    type Error: Error;
    /// A foreign object in the place of a desired one.
    type Conflict;

    /// The key of each op of a plan, with what the op wants of the object. Objects that cannot be restored one without the other
    /// have one key.
    fn keyed(&self, ops: &[Self::Op]) -> Vec<Keyed<Self::Key>>;

    /// The kind of op in one word, for counters.
    fn kind(op: &Self::Op) -> &'static str;

    /// True where the op removes something.
    fn is_removal(op: &Self::Op) -> bool;

    /// True for ops of which the removals take away what the others replace. Such removals are carried out after all other ops, and
    /// only if none of the replacements was refused.
    fn is_replacement(op: &Self::Op) -> bool;

    /// True for ops without which the program is not ready.
    fn is_essential(op: &Self::Op) -> bool;

    /// True where the error of a removal says that the object does not exist, so that the op has nothing to do.
    fn is_done_despite(op: &Self::Op, error: &Self::Error) -> bool;
}

/// The report of a run over a domain.
pub type ReportOf<D> = Report<<D as Domain>::Op, <D as Domain>::Error, <D as Domain>::Conflict>;

/// What has to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty<K> {
    /// Everything, after a dump. Runs over dirty keys may go on until then.
    pub full: bool,
    /// Everything, after a dump: the observed values are not known any more.
    pub resync: bool,
    /// These keys.
    pub keys: BTreeSet<K>,
}

impl<K> Default for Dirty<K> {
    fn default() -> Self {
        Self { full: false, resync: false, keys: BTreeSet::new() }
    }
}

/// The state between runs.
#[derive(Debug)]
pub struct Engine<K, V> {
    dirty: Dirty<K>,
    deviations: BTreeMap<K, V>,
    /// Keys with a problem that the last full run reported: only a full run can withdraw the problem.
    reported: BTreeSet<K>,
    /// False before the first full run, and where the last run left something undone.
    complete: bool,
    backoff: RepairBackoff<K>,
}

impl<K, V> Default for Engine<K, V> {
    fn default() -> Self {
        Self {
            dirty: Dirty::default(),
            deviations: BTreeMap::new(),
            reported: BTreeSet::new(),
            complete: false,
            backoff: RepairBackoff::default(),
        }
    }
}

impl<K: ObjectKey, V: PartialEq> Engine<K, V> {
    /// Goes on after a full run. `deviations` are the keys whose value in the dump differed from the desired one: the notifications of
    /// the run's own changes are still to come. `complete` is false where the run left something undone.
    pub fn adopt(&mut self, deviations: BTreeMap<K, V>, reported: BTreeSet<K>, complete: bool) {
        (self.dirty, self.deviations, self.reported, self.complete) =
            (Dirty::default(), deviations, reported, complete);
    }

    /// Forgets all but the repairs: the next run has to be a full one.
    pub fn forget(&mut self) {
        self.adopt(BTreeMap::new(), BTreeSet::new(), false);
    }

    /// What has to be compared.
    pub fn dirty(&self) -> &Dirty<K> {
        &self.dirty
    }

    /// The observed value of each key where it differs from the desired one.
    pub fn deviations(&self) -> &BTreeMap<K, V> {
        &self.deviations
    }

    /// The object has this value now. A value other than the desired one makes the key dirty where `is_ours` says that the object is
    /// ours to compare; the desired one makes the key clean, which is how the notifications of own changes end.
    pub fn observe(&mut self, key: K, observed: V, desired: &V, is_ours: bool) {
        if observed == *desired {
            self.settle(&key);
        } else {
            if is_ours {
                self.dirty.keys.insert(key.clone());
            }
            self.deviations.insert(key, observed);
        }
    }

    /// The desired value of a key was `former`, and is `desired` now.
    pub fn change(&mut self, key: K, former: V, desired: &V) {
        let observed = self.deviations.remove(&key).unwrap_or(former);
        self.observe(key, observed, desired, true);
    }

    /// The object has its desired value.
    pub fn settle(&mut self, key: &K) {
        self.deviations.remove(key);
        self.dirty.keys.remove(key);
    }

    /// Everything has to be compared, after a dump.
    pub fn require_full(&mut self) {
        self.dirty.full = true;
    }

    /// The observed values are not known any more.
    pub fn require_resync(&mut self) {
        self.dirty.resync = true;
    }

    /// A run over dirty keys could not do all: a full run has to.
    pub fn give_up(&mut self) {
        self.complete = false;
        self.dirty.keys.clear();
        self.require_full();
    }

    /// True where there is something to compare.
    pub fn is_dirty(&self) -> bool {
        self.dirty != Dirty::default()
    }

    /// True where a run over dirty keys can answer a change.
    pub fn is_incremental(&self) -> bool {
        self.complete && !self.dirty.resync
    }

    /// True where there is something to compare that only a full run can.
    pub fn needs_full(&self) -> bool {
        self.dirty.full
            || self.is_dirty() && !self.is_incremental()
            || !self.dirty.keys.iter().all(ObjectKey::is_incremental)
    }

    /// The dirty keys, to be compared now; `None` where only a full run can.
    pub fn take_keys(&mut self) -> Option<BTreeSet<K>> {
        let keys = std::mem::take(&mut self.dirty.keys);
        (self.is_incremental() && keys.iter().all(ObjectKey::is_incremental)).then_some(keys)
    }

    /// True where the last full run reported a problem of one of these keys.
    pub fn is_reported(&self, keys: &BTreeSet<K>) -> bool {
        !self.reported.is_disjoint(keys)
    }

    /// Carries out a plan, but for the ops that the repair back-off defers. An op that is refused does not stop the others.
    pub fn run<D: Domain<Key = K>>(
        &mut self,
        domain: &D,
        mut ops: Vec<D::Op>,
        conflicts: Vec<D::Conflict>,
        (run, now): (RunKind, Duration),
        carry_out: impl FnMut(&[D::Op]) -> Vec<Result<(), D::Error>>,
    ) -> (ReportOf<D>, Deferred<K, D::Op>) {
        let deferred = self.backoff.defer(&mut ops, |ops| domain.keyed(ops), run, now);
        let report = Report { conflicts, ..apply::<D>(ops, carry_out) };
        let refused: Vec<D::Op> = report.failed.iter().map(|(op, _)| op.clone()).collect();
        self.backoff.refused(domain.keyed(&refused).into_iter().map(|keyed| keyed.key), now);
        (report, deferred)
    }

    /// Forgets every repair ([`RepairBackoff::reset`]).
    pub fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// When a full run has to plan deferred ops again.
    pub fn next_repair(&self) -> Option<Duration> {
        self.backoff.next()
    }
}

/// Carries out ops in their order.
pub fn apply<D: Domain>(
    mut ops: Vec<D::Op>,
    mut carry_out: impl FnMut(&[D::Op]) -> Vec<Result<(), D::Error>>,
) -> ReportOf<D> {
    let last: Vec<D::Op> = ops.extract_if(.., |op| D::is_replacement(op) && D::is_removal(op)).collect();
    let mut results = carry_out(&ops);
    if !ops.iter().zip(&results).any(|(op, result)| D::is_replacement(op) && result.is_err()) {
        results.extend(carry_out(&last));
        ops.extend(last);
    }
    let mut report = ReportOf::<D>::default();
    for (op, result) in ops.into_iter().zip(results) {
        let count = report.counts.entry(D::kind(&op)).or_default();
        match result {
            Err(error) if !D::is_done_despite(&op, &error) => {
                count.failed += 1;
                report.failed.push((op, error));
            }
            _ => {
                count.applied += 1;
                report.applied += 1;
            }
        }
    }
    report.is_ready = !report.failed.iter().any(|(op, _)| D::is_essential(op));
    report
}

/// The keys at which two lists differ, both sorted by key. A key that stands in `observed` more than once differs.
pub fn deviating<K: Ord + Clone, V: PartialEq>(
    observed: impl IntoIterator<Item = (K, V)>,
    desired: impl IntoIterator<Item = (K, V)>,
) -> Vec<K> {
    let mut observed: Peekable<_> = observed.into_iter().peekable();
    let mut deviating = Vec::new();
    for (key, value) in desired {
        while let Some((other, _)) = observed.next_if(|(other, _)| *other < key) {
            deviating.push(other);
        }
        if observed.next_if(|(other, there)| *other == key && *there == value).is_none() {
            deviating.push(key);
        }
    }
    deviating.extend(observed.map(|(key, _)| key));
    deviating
}

#[cfg(test)]
mod tests;
