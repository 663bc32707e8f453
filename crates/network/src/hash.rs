//! A small hash that gives the same number on every machine and in every release: what it names outlives a build.
//!
//! Pure. FNV-1a, 64 bits; not for keys that a stranger chooses to make collide.

/// The hash of `bytes`.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
