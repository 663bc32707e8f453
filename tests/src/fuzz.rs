//! Inputs that nobody would write: what a parser of strangers' bytes must survive.
//!
//! Runs on stable Rust and needs no tool: good inputs are changed at random, and what was survived is sometimes
//! changed again. A run is repeated by its seed, which a failure prints.

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::failure::{Context, Failure, Outcome};

pub mod recorded;

#[cfg(test)]
mod tests;

/// No parser may use more processor time for one input: far more than any needs, far less than one that never ends.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How large a changed input may grow.
const LARGEST: usize = 16 << 10;

/// Pieces that formats of this field trip over.
const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\u{0}",
    "/",
    "//33",
    "/129",
    "::",
    "255.255.255.255",
    "..",
    "../",
    "=",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{a0}",
    "İ",
    "a-name-of-16-byt",
];

/// A source of changes; the same seed gives the same ones (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed | 1)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(number).unwrap_or(0) % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// Changes `input` in a few places; `other` is a second input to take parts from.
pub fn change(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let place = chance.below(input.len() + 1);
        let length = chance.below(input.len() - place + 1).min(chance.below(64) + 1);
        let span = place..(place + length).min(input.len());
        match chance.below(8) {
            0 => input.truncate(place),
            1 => drop(input.drain(span)),
            2 => input.insert(place, chance.byte()),
            3 if place < input.len() => input[place] ^= 1 << chance.below(8),
            4 if place < input.len() => input[place] = chance.byte(),
            5 => {
                let again: Vec<u8> = input[span].to_vec();
                input.splice(place..place, again);
            }
            6 => {
                let from = chance.below(other.len() + 1);
                let until = (from + chance.below(64)).min(other.len());
                input.splice(span, other[from..until].iter().copied());
            }
            _ => {
                let piece = PIECES[chance.below(PIECES.len())].bytes();
                input.splice(span, piece);
            }
        }
    }
    input.truncate(LARGEST);
}

/// Feeds `target` with changed `seeds` for so long; every seed unchanged comes first.
///
/// # Errors
/// With the input where `target` panics or takes too long.
pub fn run(seed: u64, during: Duration, seeds: &[Vec<u8>], target: impl Fn(&[u8])) -> Outcome<usize> {
    let mut chance = Chance::new(seed);
    let mut pool = seeds.to_vec();
    pool.push(Vec::new());
    for input in &pool {
        feed(seed, input, &target)?;
    }
    let end = Instant::now() + during;
    let mut count = pool.len();
    while Instant::now() < end {
        let mut input = pool[chance.below(pool.len())].clone();
        let other = chance.below(pool.len());
        change(&mut input, &pool[other], &mut chance);
        feed(seed, &input, &target)?;
        count += 1;
        // Changes of changes reach further; the seeds themselves always stay.
        if chance.below(16) == 0 {
            if pool.len() < 256 {
                pool.push(input);
            } else {
                let place = seeds.len() + chance.below(pool.len() - seeds.len());
                pool[place] = input;
            }
        }
    }
    Ok(count)
}

fn feed(seed: u64, input: &[u8], target: &impl Fn(&[u8])) -> Outcome {
    let start = processor_time()?;
    let failed = |what: &str| Failure::new(format!("{what} on {} (seed {seed})", input.escape_ascii()));
    panic::catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|_| failed("it panics"))?;
    crate::ensure!(processor_time()?.saturating_sub(start) < TIMEOUT, "{}", failed("it takes too long"));
    Ok(())
}

/// The processor time of this thread: unlike the clock's, it does not depend on what else runs.
fn processor_time() -> Outcome<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).context("read this thread's processor time")
}

/// How long a target runs: `FUZZ_SECONDS`, or two.
///
/// # Errors
/// Where that is no number.
pub fn duration() -> Outcome<Duration> {
    let Some(text) = std::env::var_os("FUZZ_SECONDS") else {
        return Ok(Duration::from_secs(2));
    };
    let seconds = text.to_string_lossy().parse().context(format!("read FUZZ_SECONDS={}", text.display()))?;
    Ok(Duration::from_secs(seconds))
}
