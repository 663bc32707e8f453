//! What only tests make: maps, sets with flags and elements, marks with more bits.

use std::ops::BitOr;

use super::{Comparison, Data, DataType, Element, Expression, Interval, Key, Set, SetFlags, Statement, Type};

impl Set {
    /// An empty map from this key.
    pub(crate) fn map(key: impl Into<Vec<Type>>, data: DataType) -> Self {
        Self { data: Some(data), ..Self::of(key) }
    }

    /// The same with these flags as well.
    pub(crate) fn with_flags(mut self, flags: SetFlags) -> Self {
        self.flags = self.flags | flags;
        self
    }

    /// The same with these elements of a set as well.
    pub(crate) fn with_keys<K: Into<Key>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.elements.extend(keys.into_iter().map(|key| (key.into(), Element::default())));
        self
    }
}

impl BitOr for SetFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl<I: Into<Interval>> FromIterator<I> for Key {
    fn from_iter<T: IntoIterator<Item = I>>(intervals: T) -> Self {
        Self(intervals.into_iter().map(Into::into).collect())
    }
}

impl From<Data> for Element {
    fn from(data: Data) -> Self {
        Self { data: Some(data), timeout: None }
    }
}

impl Expression {
    /// `self | bits`.
    pub(crate) fn or(self, bits: u32) -> Self {
        Self::Bits { of: Box::new(self), mask: !bits, xor: bits }
    }
}

impl Statement {
    /// Goes on where `key` is not in the set.
    pub(crate) fn is_not_in(key: impl Into<Vec<Expression>>, set: impl Into<String>) -> Self {
        Self::Lookup { key: key.into(), op: Comparison::Ne, set: set.into() }
    }
}
