//! We never fight: what something else undoes again and again is put back ever more rarely, and told.
//!
//! Pure: the time is an argument, counted from any fixed point. A repair puts back what was right before. An object that
//! is repaired more than [`TIMES`] within a [`WINDOW`] is contested: from then on the next repair waits a second, then two,
//! four, up to [`LONGEST`], until the object has been left alone for long enough.

mod object;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dataplane::op::Op;

use crate::overlay::Desired;
use crate::plan::Plan;
pub use object::Object;
use object::Wish;

/// So many repairs within a window may be chance.
pub const TIMES: usize = 10;
/// The time in which repairs are counted.
pub const WINDOW: Duration = Duration::from_mins(1);
/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_mins(1);
/// So many times the last wait an object has to stand, and a window at least, to be contested no more.
const STANDS: u32 = 3;
/// More contested objects of one kind are told in one sentence.
const FEW: usize = 8;

/// What a run is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occasion {
    /// The world has not asked for anything new: what differs was right before.
    pub repairs: bool,
    /// The plan is of everything: what is not in it is as it should be.
    pub full: bool,
}

/// An object that something else undoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// What it is.
    pub object: Object,
    /// How often it has been put back since it was last left alone.
    pub times: u64,
    /// How long until it is put back, where it is undone now.
    pub next: Option<Duration>,
}

/// What is left undone for now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The ops, in the plan's order.
    pub ops: Vec<Op>,
    /// How many waits have begun, by [`Object::kind`].
    pub begun: BTreeMap<&'static str, u64>,
    /// All that is contested.
    pub contested: Vec<Contested>,
}

impl Held {
    /// What a person should know. The same sentences for as long as the same objects are contested, however often.
    pub fn complaints(&self) -> BTreeSet<String> {
        let mut by_kind: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for contested in &self.contested {
            by_kind.entry(contested.object.kind()).or_default().push(&contested.object);
        }
        let mut complaints = BTreeSet::new();
        for (kind, objects) in by_kind {
            let remedy = objects[0].remedy();
            if objects.len() > FEW {
                complaints.insert(format!(
                    "many objects of netd's (kind: {kind}) are undone again and again by something else: find out what does it \
                     ({remedy}); netd puts them back ever more rarely"
                ));
                continue;
            }
            complaints.extend(objects.into_iter().map(|object| {
                format!(
                    "{object} is undone again and again by something else: find out what does it ({remedy}); netd puts it \
                     back ever more rarely"
                )
            }));
        }
        complaints
    }
}

/// What is remembered of an object that was repaired.
#[derive(Debug, Clone, Default)]
struct Record {
    wish: Wish,
    /// The repairs within the window before the last one.
    recent: VecDeque<Duration>,
    times: u64,
    last: Duration,
    /// Since when it has been seen undone without being put back.
    undone: Option<Duration>,
    /// How long the next repair waits after the last: it is contested.
    wait: Option<Duration>,
    /// The same before the last repair.
    former_wait: Option<Duration>,
}

impl Record {
    fn due(&self) -> Duration {
        self.last + self.wait.unwrap_or_default()
    }

    /// True where it has stood long enough to forget it all.
    fn is_over(&self, now: Duration) -> bool {
        let stood = self.undone.unwrap_or(now).saturating_sub(self.last);
        stood >= WINDOW.max(self.wait.unwrap_or_default() * STANDS)
    }

    fn repair(&mut self, now: Duration) {
        if self.is_over(now) {
            *self = Self { wish: std::mem::take(&mut self.wish), ..Self::default() };
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

    /// The last repair was none.
    fn take_back(&mut self) {
        self.recent.pop_back();
        self.times -= 1;
        self.wait = self.former_wait;
    }
}

/// What was repaired lately, and how patient to be with it.
#[derive(Debug, Default)]
pub struct Patience {
    records: BTreeMap<Object, Record>,
}

impl Patience {
    /// Takes out of `plan` what has to wait, all ops on an object together, and counts what stays as repaired.
    pub fn hold(&mut self, plan: &mut Plan, desired: &Desired, occasion: Occasion, now: Duration) -> Held {
        if self.records.is_empty() && !occasion.repairs {
            return Held::default();
        }
        let objects = object::of_plan(&plan.ops, desired);
        let mut wishes: BTreeMap<&Object, Wish> = BTreeMap::new();
        for (op, object) in plan.ops.iter().zip(&objects) {
            object::wish(op, object, wishes.entry(object).or_default());
        }
        if occasion.full {
            for (_, record) in self.records.iter_mut().filter(|(object, _)| !wishes.contains_key(object)) {
                record.undone = None;
            }
        }
        let mut held = Held::default();
        let mut waiting = BTreeSet::new();
        for (object, wish) in wishes {
            if self.waits(object, wish, occasion, now, &mut held.begun) {
                waiting.insert(object.clone());
            }
        }
        self.records.retain(|_, record| record.undone.is_some() || !record.is_over(now));
        if !waiting.is_empty() {
            let ops = std::mem::take(&mut plan.ops).into_iter().zip(&objects);
            let (later, now): (Vec<_>, Vec<_>) = ops.partition(|(_, object)| waiting.contains(object));
            plan.ops = now.into_iter().map(|(op, _)| op).collect();
            held.ops = later.into_iter().map(|(op, _)| op).collect();
        }
        held.contested = self.contested(now);
        held
    }

    /// True where `object` is not to be put back now.
    fn waits(
        &mut self,
        object: &Object,
        wish: Wish,
        occasion: Occasion,
        now: Duration,
        begun: &mut BTreeMap<&'static str, u64>,
    ) -> bool {
        let Some(record) = self.records.get_mut(object) else {
            if occasion.repairs {
                let mut record = Record { wish, ..Record::default() };
                record.repair(now);
                self.records.insert(object.clone(), record);
            }
            return false;
        };
        let is_new = wish.iter().any(|(part, value)| record.wish.get(part).is_some_and(|known| known != value));
        record.wish.extend(wish);
        if is_new {
            // That is no repair: the world asks for something else.
            record.undone = None;
            return false;
        }
        if now < record.due() {
            if record.undone.is_none() {
                record.undone = Some(now);
                *begun.entry(object.kind()).or_default() += 1;
            }
            return true;
        }
        if occasion.repairs || record.wait.is_some() {
            record.repair(now);
        }
        false
    }

    /// These ops of the plan that was let through at `now` were refused by the kernel: nothing was put back.
    pub fn refused<'o>(&mut self, ops: impl Iterator<Item = &'o Op>, desired: &Desired, now: Duration) {
        let ops: Vec<Op> = ops.cloned().collect();
        for object in object::of_plan(&ops, desired).into_iter().collect::<BTreeSet<_>>() {
            if let Some(record) = self.records.get_mut(&object).filter(|record| record.last == now && record.times > 0)
            {
                record.take_back();
            }
        }
    }

    /// Forgets all: the interface between nodes went down or away, and what lay on it with it. Nobody undid that.
    pub fn excuse(&mut self) {
        self.records.clear();
    }

    /// When the next wait is over: then the plan is to be made again, with what is held.
    pub fn next(&self) -> Option<Duration> {
        self.records.values().filter(|record| record.undone.is_some()).map(Record::due).min()
    }

    fn contested(&self, now: Duration) -> Vec<Contested> {
        let contested = self.records.iter().filter(|(_, record)| record.wait.is_some());
        let told = contested.map(|(object, record)| Contested {
            object: object.clone(),
            times: record.times,
            next: record.undone.map(|_| record.due().saturating_sub(now)),
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests;
