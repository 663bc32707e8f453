//! Repair back-off: an object that something else keeps undoing is restored ever more rarely, and reported to a person.
//!
//! Pure: the time is an argument, counted from any fixed point. A repair restores what was right before. More than [`TIMES`] repairs
//! of a key within a [`WINDOW`] make the key contested. The next repair of a contested key waits one second, then two, four, up to
//! [`LONGEST`], until the object has stood unharmed for long enough.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::key::{DesiredHash, Keyed, ObjectKey};

/// So many repairs within a window may be chance.
pub const TIMES: usize = 10;
/// The time in which repairs are counted.
pub const WINDOW: Duration = Duration::from_mins(1);
/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_mins(1);
/// A contested object has to stand for so many times its last wait, and for a window at least, until it is forgotten.
const STANDS: u32 = 3;

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunKind {
    /// No new desired state caused the run: what differs was right before.
    pub repairs: bool,
    /// The plan is of every key: an object without an op is as desired.
    pub full: bool,
}

/// An object that something else undoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested<K> {
    /// Its key.
    pub key: K,
    /// How often it was restored since it last stood unharmed.
    pub times: u64,
    /// How long until it is restored, where it is undone now.
    pub next: Option<Duration>,
}

/// What a run left undone because of the back-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred<K, O> {
    /// The ops, in the plan's order.
    pub ops: Vec<O>,
    /// How many waits began in this run, by [`ObjectKey::kind`].
    pub begun: BTreeMap<&'static str, u64>,
    /// Every contested object.
    pub contested: Vec<Contested<K>>,
}

impl<K, O> Default for Deferred<K, O> {
    fn default() -> Self {
        Self { ops: Vec::new(), begun: BTreeMap::new(), contested: Vec::new() }
    }
}

/// The repairs of one key.
#[derive(Debug, Clone, Default)]
struct Repairs {
    desired: DesiredHash,
    /// The repairs within the window before the last one.
    recent: VecDeque<Duration>,
    times: u64,
    last: Duration,
    /// Since when the object has been seen undone without being restored.
    undone: Option<Duration>,
    /// How long the next repair waits after the last: the key is contested.
    wait: Option<Duration>,
    /// `wait` before the last repair.
    former_wait: Option<Duration>,
}

impl Repairs {
    fn due(&self) -> Duration {
        self.last + self.wait.unwrap_or_default()
    }

    /// True where the object has stood long enough to forget its repairs.
    fn is_over(&self, now: Duration) -> bool {
        let stood = self.undone.unwrap_or(now).saturating_sub(self.last);
        stood >= WINDOW.max(self.wait.unwrap_or_default() * STANDS)
    }

    fn repair(&mut self, now: Duration) {
        if self.is_over(now) {
            *self = Self { desired: std::mem::take(&mut self.desired), ..Self::default() };
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.saturating_sub(*first) >= WINDOW) {
            self.recent.pop_front();
        }
        self.times += 1;
        (self.last, self.undone, self.former_wait) = (now, None, self.wait);
        self.wait = match self.wait {
            Some(wait) => Some((wait * 2).min(LONGEST)),
            None => (self.recent.len() > TIMES).then_some(FIRST),
        };
    }

    /// The last repair did not happen.
    fn take_back(&mut self) {
        self.recent.pop_back();
        self.times -= 1;
        self.wait = self.former_wait;
    }
}

/// The recent repairs, by key.
#[derive(Debug)]
pub struct RepairBackoff<K> {
    records: BTreeMap<K, Repairs>,
}

impl<K> Default for RepairBackoff<K> {
    fn default() -> Self {
        Self { records: BTreeMap::new() }
    }
}

impl<K: ObjectKey> RepairBackoff<K> {
    /// Takes the ops that have to wait out of `ops`, all ops of a key together, and counts the others as repairs. `keyed` gives the
    /// key of each op.
    pub fn defer<O>(
        &mut self,
        ops: &mut Vec<O>,
        keyed: impl FnOnce(&[O]) -> Vec<Keyed<K>>,
        run: RunKind,
        now: Duration,
    ) -> Deferred<K, O> {
        let mut deferred = Deferred::default();
        if self.records.is_empty() && !run.repairs {
            return deferred;
        }
        let keyed = keyed(ops);
        let mut wanted: BTreeMap<&K, DesiredHash> = BTreeMap::new();
        for Keyed { key, desired } in &keyed {
            wanted.entry(key).or_default().extend(desired);
        }
        if run.full {
            for (_, record) in self.records.iter_mut().filter(|(key, _)| !wanted.contains_key(key)) {
                record.undone = None;
            }
        }
        let mut waiting = BTreeSet::new();
        for (key, desired) in wanted {
            if self.waits(key, desired, run, now, &mut deferred.begun) {
                waiting.insert(key);
            }
        }
        self.records.retain(|_, record| record.undone.is_some() || !record.is_over(now));
        let mut keys = keyed.iter().map(|keyed| &keyed.key);
        deferred.ops = ops.extract_if(.., |_| keys.next().is_some_and(|key| waiting.contains(key))).collect();
        deferred.contested = self.contested(now);
        deferred
    }

    /// True where the object is not to be restored now.
    fn waits(
        &mut self,
        key: &K,
        desired: DesiredHash,
        run: RunKind,
        now: Duration,
        begun: &mut BTreeMap<&'static str, u64>,
    ) -> bool {
        let Some(record) = self.records.get_mut(key) else {
            if run.repairs {
                let mut record = Repairs { desired, ..Repairs::default() };
                record.repair(now);
                self.records.insert(key.clone(), record);
            }
            return false;
        };
        let is_new = desired.iter().any(|(part, value)| record.desired.get(part).is_some_and(|known| known != value));
        record.desired.extend(desired);
        if is_new {
            // Another value is desired, so this is no repair.
            record.undone = None;
            return false;
        }
        if now < record.due() {
            if record.undone.is_none() {
                record.undone = Some(now);
                *begun.entry(key.kind()).or_default() += 1;
            }
            return true;
        }
        if run.repairs || record.wait.is_some() {
            record.repair(now);
        }
        false
    }

    /// Ops on these keys were refused in the run at `now`: nothing was restored.
    pub fn refused(&mut self, keys: impl IntoIterator<Item = K>, now: Duration) {
        for key in keys.into_iter().collect::<BTreeSet<_>>() {
            if let Some(record) = self.records.get_mut(&key).filter(|record| record.last == now && record.times > 0) {
                record.take_back();
            }
        }
    }

    /// Forgets every repair: the objects went with what they stood on, and nobody undid them.
    pub fn reset(&mut self) {
        self.records.clear();
    }

    /// When the next wait is over: then a full run has to plan the deferred ops again.
    pub fn next(&self) -> Option<Duration> {
        self.records.values().filter(|record| record.undone.is_some()).map(Repairs::due).min()
    }

    fn contested(&self, now: Duration) -> Vec<Contested<K>> {
        let contested = |(key, record): (&K, &Repairs)| {
            record.wait?;
            let next = record.undone.map(|_| record.due().saturating_sub(now));
            Some(Contested { key: key.clone(), times: record.times, next })
        };
        self.records.iter().filter_map(contested).collect()
    }
}
