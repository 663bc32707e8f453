//! Lists as text. Pure.

use std::fmt::{Display, Formatter, Result};

/// Prints its parts with a text between each two.
pub(super) struct Joined<I>(pub(super) I, pub(super) &'static str);

impl<I: Clone + IntoIterator<Item: Display>> Display for Joined<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, part) in self.0.clone().into_iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}
