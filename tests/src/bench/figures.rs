//! Durations as a table: medians and percentiles, one row for each thing that was timed.

use std::time::Duration;

/// Times of the same thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    /// The time that so many of a hundred do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Half are shorter.
    pub(super) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// A row of the table.
    pub(super) fn row(&self, label: &str) {
        let [least, middle, high, most] = [0, 50, 90, 100].map(|percent| millis(self.percentile(percent)));
        println!("{label:<52} {middle:>9.2} {high:>9.2} {most:>9.2} {least:>9.2} {:>5}", self.0.len());
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// The head of a table, for [`Times::row`].
pub(super) fn head(title: &str) {
    println!("{title:<52} {:>9} {:>9} {:>9} {:>9} {:>5}", "p50 (ms)", "p90", "max", "min", "n");
}

/// A line of text below the rows.
pub(super) fn note(text: &str) {
    println!("  {text}");
}

/// In milliseconds.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How many times as long the one is.
pub(super) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// The number that so many of a hundred do not exceed.
pub(super) fn quantile(numbers: &[f64], percent: usize) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts, bytes and clock ticks are far below 2^52")]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}
