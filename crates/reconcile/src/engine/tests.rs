//! A toy kernel of numbered places: whatever happens in whatever order, runs over dirty keys end as full runs do.

use std::convert::Infallible;
use std::fmt;

use proptest::prelude::*;

use super::*;
use crate::key::DesiredHash;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u8);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "place {}", self.0)
    }
}

impl ObjectKey for Place {
    fn kind(&self) -> &'static str {
        "place"
    }

    fn remedy(&self) -> &'static str {
        "look"
    }

    fn is_incremental(&self) -> bool {
        self.0 > 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Put(Place, Option<u8>);

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {:?} at {}", self.1, self.0)
    }
}

#[derive(Debug)]
struct Places;

impl Domain for Places {
    type Key = Place;
    type Op = Put;
    type Error = Infallible;
    type Conflict = ();

    fn keyed(&self, ops: &[Put]) -> Vec<Keyed<Place>> {
        ops.iter().map(|op| Keyed { key: op.0, desired: DesiredHash::new() }).collect()
    }

    fn kind(_: &Put) -> &'static str {
        "put"
    }

    fn is_removal(op: &Put) -> bool {
        op.1.is_none()
    }

    fn is_replacement(_: &Put) -> bool {
        false
    }

    fn is_essential(_: &Put) -> bool {
        false
    }

    fn is_done_despite(_: &Put, _: &Infallible) -> bool {
        false
    }
}

type Values = BTreeMap<Place, u8>;

#[derive(Debug, Default)]
struct World {
    kernel: Values,
    desired: Values,
    notifications: Vec<(Place, Option<u8>)>,
    engine: Engine<Place, Option<u8>>,
    full_runs: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Desire(u8, Option<u8>),
    Change(u8, Option<u8>),
    Lose,
    Run,
}

fn put(values: &mut Values, place: Place, value: Option<u8>) {
    match value {
        Some(value) => drop(values.insert(place, value)),
        None => drop(values.remove(&place)),
    }
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Desire(place, value) => {
                let place = Place(place);
                let former = self.desired.get(&place).copied();
                put(&mut self.desired, place, value);
                self.engine.change(place, former, &value);
            }
            Step::Change(place, value) => {
                put(&mut self.kernel, Place(place), value);
                self.notifications.push((Place(place), value));
            }
            Step::Lose => {
                self.notifications.clear();
                self.engine.require_resync();
            }
            Step::Run => while self.run() > 0 {},
        }
    }

    fn notify(&mut self) {
        for (place, value) in std::mem::take(&mut self.notifications) {
            let desired = self.desired.get(&place).copied();
            self.engine.observe(place, value, &desired, true);
        }
    }

    /// One run, over dirty keys where that can be; gives how many ops it had.
    fn run(&mut self) -> usize {
        self.notify();
        let is_full = self.engine.needs_full() || !self.engine.is_incremental();
        let keys = if is_full { None } else { self.engine.take_keys() };
        let dump = |values: &Values| values.iter().map(|(place, value)| (*place, *value)).collect::<Vec<_>>();
        let differing = if let Some(keys) = &keys {
            keys.iter().copied().filter(|key| self.engine.deviations().get(key).is_some()).collect()
        } else {
            self.full_runs += 1;
            self.notifications.clear();
            deviating(dump(&self.kernel), dump(&self.desired))
        };
        let deviations = differing.iter().map(|key| (*key, self.kernel.get(key).copied())).collect();
        let ops: Vec<_> = differing.into_iter().map(|key| Put(key, self.desired.get(&key).copied())).collect();
        let kind = (RunKind { repairs: false, full: is_full }, Duration::ZERO);
        let (kernel, notifications) = (&mut self.kernel, &mut self.notifications);
        let (report, _) = self.engine.run(&Places, ops, Vec::new(), kind, |ops| {
            for Put(place, value) in ops {
                put(kernel, *place, *value);
                notifications.push((*place, *value));
            }
            ops.iter().map(|_| Ok(())).collect()
        });
        if is_full {
            self.engine.adopt(deviations, BTreeSet::new(), true);
        }
        report.applied
    }
}

fn step() -> impl Strategy<Value = Step> {
    let value = || proptest::option::of(0..3_u8);
    prop_oneof![
        4 => (0..5_u8, value()).prop_map(|(place, value)| Step::Desire(place, value)),
        4 => (0..5_u8, value()).prop_map(|(place, value)| Step::Change(place, value)),
        1 => Just(Step::Lose),
        3 => Just(Step::Run),
    ]
}

proptest! {
    #[test]
    fn any_order_of_events_ends_with_the_desired_values(steps in proptest::collection::vec(step(), 0..40)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
            if matches!(step, Step::Run) {
                prop_assert_eq!(&world.kernel, &world.desired, "after a run");
            }
        }
        world.step(&Step::Run);
        prop_assert_eq!(&world.kernel, &world.desired);
        world.notify();
        prop_assert!(!world.engine.is_dirty() && world.engine.deviations().is_empty(), "nothing is left: {:?}", world.engine);
        prop_assert_eq!(world.run(), 0, "a second run has nothing to do");
    }

    #[test]
    fn deviations_are_the_differences(steps in proptest::collection::vec(step(), 0..40)) {
        let mut world = World::default();
        world.step(&Step::Run);
        for step in steps.iter().filter(|step| !matches!(step, Step::Lose)) {
            world.step(step);
            world.notify();
            let places = (0..5).map(Place);
            let differ = places.filter(|place| world.kernel.get(place) != world.desired.get(place));
            let expected: BTreeMap<_, _> = differ.map(|place| (place, world.kernel.get(&place).copied())).collect();
            prop_assert_eq!(world.engine.deviations(), &expected);
        }
    }
}

#[test]
fn a_change_of_a_few_keys_asks_for_no_full_run() {
    let mut world = World::default();
    world.step(&Step::Run);
    let before = world.full_runs;
    for step in
        [Step::Desire(1, Some(1)), Step::Run, Step::Change(1, None), Step::Run, Step::Desire(1, None), Step::Run]
    {
        world.step(&step);
    }
    assert_eq!((world.full_runs, world.kernel), (before, Values::new()));
}

#[test]
fn a_key_that_needs_a_dump_asks_for_a_full_run() {
    let mut world = World::default();
    world.step(&Step::Run);
    world.step(&Step::Desire(0, Some(1)));
    assert!(world.engine.needs_full());
}

#[test]
fn lists_differ_where_values_do() {
    let observed = [(1, 'a'), (2, 'b'), (2, 'c'), (4, 'd')];
    assert_eq!(deviating(observed, [(1, 'a'), (2, 'b'), (3, 'x'), (4, 'e')]), [2, 3, 4, 4]);
}
