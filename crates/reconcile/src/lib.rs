//! How a program keeps objects true, knowing nothing of what the objects are.
//!
//! | word | meaning |
//! |---|---|
//! | key | what an object is known by, whatever its value: [`ObjectKey`] |
//! | desired value | what the object should be |
//! | observed value | what the object is: the desired value, except for deviations |
//! | deviation | a key whose observed value differs from the desired one, with the observed value |
//! | dirty key | a key to compare in the next run: [`Dirty`] |
//! | resync | a dump of everything, since the observed values are not known any more |
//! | repair | a change that restores what was right before; [`RepairBackoff`] slows repairs of contested keys |
//!
//! A run takes keys, compares their observed with their desired values, carries out the difference in a safe order and reports
//! ([`Engine::run`]). A full run is the same after a dump, with every key dirty.
//!
//! Pure: the time and the function that carries out ops are arguments.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod engine;
pub mod key;
pub mod problem;
pub mod report;

pub use backoff::{Contested, Deferred, RepairBackoff, RunKind};
pub use engine::{Dirty, Domain, Engine, deviating};
pub use key::{DesiredHash, Keyed, ObjectKey};
pub use report::{Count, Report};
