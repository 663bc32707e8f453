//! Durations in Go's syntax: `1m30s`, `250ms`, `0s`.
//!
//! Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, which may be negative in Go. A negative one is kept for the message about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub SignedDuration);

impl GoDuration {
    /// So many seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(SignedDuration::from_secs(seconds))
    }

    /// The duration; `None` for a negative one.
    pub fn get(self) -> Option<Duration> {
        Duration::try_from(self.0).ok()
    }
}

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::default());
        }
        // Go has neither blanks nor the units' long names.
        let is_go = text.chars().all(|char| char.is_ascii_digit() || "+-.hmsunµ".contains(char));
        let read = text.trim_start_matches('+').parse().ok().filter(|_| is_go);
        read.map(Self).ok_or_else(|| format!("{text:?} is no duration: it must be like 30s, 1m30s or 250ms"))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.0.is_zero() { "0s".to_owned() } else { format!("{:#}", self.0.abs()).replace(' ', "") };
        write!(f, "{}{text}", if self.0.is_negative() { "-" } else { "" })
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
