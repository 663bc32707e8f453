//! Keys of objects.
//!
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Display;

/// What an object is known by. Prints as a person would name the object.
pub trait ObjectKey: Clone + Ord + Display {
    /// The kind of object in one word, for counters.
    fn kind(&self) -> &'static str;

    /// How a person finds out who changes the object.
    fn remedy(&self) -> &'static str;

    /// True where a run over dirty keys can compare the object; false where the comparison needs a dump.
    fn is_incremental(&self) -> bool;
}

/// What ops want of an object, part by part: a hash of each. Another hash of the same part is another desired value, so no repair.
pub type DesiredHash = BTreeMap<&'static str, u64>;

/// The key of an op, and what the op wants of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed<K> {
    /// The object's key.
    pub key: K,
    /// What the op wants of the object.
    pub desired: DesiredHash,
}
