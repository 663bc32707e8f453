//! A point in time as people and programs write it: RFC 3339 in UTC, whole seconds.
//!
//! Pure: the clock is read elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: u64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// How long ago it was at `now`, in the largest unit that is not 0; a clock that was set back makes it `0s`.
    pub fn age(self, now: Moment) -> String {
        let seconds = now.0.saturating_sub(self.0);
        match seconds {
            0..120 => format!("{seconds}s"),
            120..7200 => format!("{}m", seconds / 60),
            7200..172_800 => format!("{}h", seconds / 3600),
            _ => format!("{}d", seconds / DAY),
        }
    }
}

/// Days of a year and month, of the proleptic Gregorian calendar, before its first one from 0000-03-01 on: a year that begins with
/// March has its leap day last.
fn days_before(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5
}

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: u64 = 719_468;

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / DAY + EPOCH, self.0 % DAY);
        // The mean year is a little long or short by turns: the guess is right or one too high.
        let guess = days * 400 / 146_097 + 1;
        let year = if days_before(guess, 1) > days { guess - 1 } else { guess };
        let month = (1..=12).rev().find(|month| days_before(year, *month) <= days).unwrap_or(1);
        let day = days - days_before(year, month) + 1;
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time: it must look like 2026-01-31T12:00:00Z")]
pub struct MomentError {
    text: String,
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let read = || {
            let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
            let in_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
            if year < 1970 || !(1..=12).contains(&month) || day < 1 {
                return None;
            }
            Some(Moment((days_before(year, month) + day - 1 - EPOCH) * DAY + in_day))
        };
        // What prints as it was read had every sign in its place.
        read().filter(|moment| moment.to_string() == text).ok_or_else(|| MomentError { text: text.to_owned() })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
