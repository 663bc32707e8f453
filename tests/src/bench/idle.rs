//! What a node costs while nothing happens: processor time of a full comparison and of a minute, and memory.

use std::thread;
use std::time::Duration;

use super::SIZES;
use super::bed::{Backend, Bed, Running};
use super::figures::{millis, note, to_f64};
use super::kernel_events::KernelEvents;
use crate::deadline::{seconds, sleep};
use crate::fail;
use crate::failure::Outcome;

/// As it is, in which two looks at the store fall; and with so many full comparisons.
const CALM: Duration = seconds(20);
const RUNS: u32 = 15;

/// What a window of time cost.
struct Window {
    cpu: Duration,
    runs: f64,
    /// Seconds that those took.
    took: f64,
    read: bool,
    received: usize,
    /// Changes that netd says it made.
    written: f64,
}

/// Prints the table.
pub(super) fn measure() -> Outcome {
    println!(
        "{:<22} {:>12} {:>12} {:>14} {:>7} {:>9} {:>9} {:>9}",
        "nothing to do", "CPU (ms/run)", "wall (ms)", "CPU (ms/min)", "writes", "VmRSS", "VmHWM", "RssAnon"
    );
    let cases = [Backend::Vxlan, Backend::HostGw].map(|backend| SIZES.map(|peers| (backend, peers)));
    // All at once: they do nothing for most of the time, and what is measured is their own processors' time.
    let lines: Vec<Outcome<String>> = thread::scope(|scope| {
        let cases = cases.as_flattened().iter();
        let cases: Vec<_> = cases.map(|(backend, peers)| scope.spawn(|| one(*backend, *peers))).collect();
        cases.into_iter().map(|case| case.join().unwrap_or_else(|_| fail!("a part broke"))).collect()
    });
    for line in lines {
        println!("{}", line?);
    }
    note(
        "run: a full comparison, one each second, less what the time costs without it; memory: in MiB, after the start",
    );
    note("writes: the kernel's notifications of the calm time, and the changes that netd counts in the other");
    Ok(())
}

fn one(backend: Backend, peers: u32) -> Outcome<String> {
    let bed = Bed::new(backend, peers)?;
    let running = bed.start(&[])?;
    running.process.rest()?;
    let memory = running.process.memory()?;
    let calm = window(&bed, &running, || {
        sleep(CALM);
        Ok(())
    })?;
    let busy = window(&bed, &running, || {
        for run in 0..RUNS {
            // Whatever is new about the interface between nodes asks for a full comparison.
            bed.namespace.run(&format!("ip link set eth0 alias run-{run}"))?;
            sleep(seconds(1));
        }
        Ok(())
    })?;
    running.daemon.terminate()?;
    let share = f64::from(RUNS) / CALM.as_secs_f64();
    let runs = busy.runs - calm.runs * share;
    let cpu = (millis(busy.cpu) - millis(calm.cpu) * share) / runs;
    let wall = busy.took / busy.runs * 1000.0;
    let minute = millis(calm.cpu) * seconds(60).as_secs_f64() / CALM.as_secs_f64();
    let [rss, peak, anonymous] = [memory.resident, memory.peak, memory.anonymous].map(mebibytes);
    let label = format!("{}, {peers} peers", backend.name());
    let writes = to_f64(calm.received as u64) + busy.written;
    let mut line = format!(
        "{label:<22} {cpu:>12.2} {wall:>12.2} {minute:>14.0} {writes:>7} {rss:>9.1} {peak:>9.1} {anonymous:>9.1}"
    );
    if !busy.read {
        line.push_str("\n  those runs read nothing: the time of the last full read has stayed");
    }
    Ok(line)
}

/// Watches it do nothing for a while.
fn window(bed: &Bed, running: &Running, body: impl FnOnce() -> Outcome) -> Outcome<Window> {
    const READ: &str = "netd_last_full_read_timestamp_seconds";
    const WRITTEN: &str = "netd_operations_total";
    running.process.rest()?;
    let before = bed.metrics()?;
    running.process.rest()?;
    let mut notifications = KernelEvents::open(&bed.namespace)?;
    let cpu = running.process.cpu()?;
    body()?;
    let cpu = running.process.cpu()?.saturating_sub(cpu);
    let received = notifications.drain()?;
    let after = bed.metrics()?;
    let (old, new) = (before.runs(""), after.runs(""));
    let read = after.sum(READ, "") > before.sum(READ, "");
    let written = after.sum(WRITTEN, "") - before.sum(WRITTEN, "");
    Ok(Window { cpu, runs: new.0 - old.0, took: new.1 - old.1, read, received, written })
}

fn mebibytes(kibibytes: u64) -> f64 {
    to_f64(kibibytes) / 1024.0
}
