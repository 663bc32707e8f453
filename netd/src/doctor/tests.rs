//! Checks on facts made by hand.
