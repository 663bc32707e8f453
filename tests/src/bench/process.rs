//! What a process has used up: processor time and memory, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Outcome};

/// `USER_HZ`: the clock ticks of `/proc/PID/stat`, 100 a second on every architecture that netd is built for.
const TICK: Duration = Duration::from_millis(10);
/// How long a process must have done nothing to count as resting, and how little nothing is.
const STILL: Duration = Duration::from_millis(6);
const NOTHING: Duration = Duration::from_micros(100);

/// A process by its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process(pub(super) u32);

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: u64,
    /// The most that ever was.
    pub(super) peak: u64,
    /// Of what is resident: the process's own, not backed by a file.
    pub(super) anonymous: u64,
}

impl Process {
    /// Processor time of all its threads, those that have ended too, in steps of 10 ms.
    pub(super) fn cpu(self) -> Outcome<Duration> {
        self.times(2)
    }

    /// The same with that of the programs that it has run and that have ended: kube-proxy lets `nft` do its work.
    pub(super) fn cpu_with_children(self) -> Outcome<Duration> {
        self.times(4)
    }

    fn times(self, count: usize) -> Outcome<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).context("read a process's times")?;
        // The name in brackets may hold anything; utime and stime are the 12th and 13th after it, and those
        // of its children follow.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u32> = fields.skip(11).take(count).filter_map(|field| field.parse().ok()).collect();
        crate::ensure!(ticks.len() == count, "no times in {text}");
        Ok(TICK * ticks.iter().sum())
    }

    /// Memory.
    pub(super) fn memory(self) -> Outcome<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).context("read a process's memory")?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
            number.context(format!("no {name} in {text}"))
        };
        Ok(Memory { resident: field("VmRSS")?, peak: field("VmHWM")?, anonymous: field("RssAnon")? })
    }

    /// Waits until it does nothing: what it still has to do for one change must not be counted to the next.
    pub(super) fn rest(self) -> Outcome {
        let timeout = Instant::now() + seconds(30);
        let mut before = self.running()?;
        let mut still = 0;
        while still < 2 {
            crate::ensure!(Instant::now() < timeout, "the process {} does not come to rest", self.0);
            // No event says that a process has stopped running, so this polls.
            sleep(STILL);
            let now = self.running()?;
            still = if now.saturating_sub(before) < NOTHING { still + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// Processor time of the threads that there are, to the nanosecond.
    fn running(self) -> Outcome<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).context("list a process's threads")?;
        let times = threads.filter_map(|thread| {
            // A thread that has just ended runs no more.
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Ok(Duration::from_nanos(times.sum()))
    }
}
