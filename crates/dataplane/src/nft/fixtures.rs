//! What only tests make.

use super::{Element, Key, Set};

impl Set {
    /// The same with these elements of a set as well.
    pub(crate) fn with_keys<K: Into<Key>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.elements.extend(keys.into_iter().map(|key| (key.into(), Element::default())));
        self
    }
}
