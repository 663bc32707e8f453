//! A hash for names that outlive a build: the same number on every machine and in every release.
//!
//! Pure. FNV-1a, 64 bits; not for keys that a stranger chooses to make collide.

use std::hash::Hasher;

use fnv::FnvHasher;

/// The hash of `bytes`.
pub fn fnv(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}
