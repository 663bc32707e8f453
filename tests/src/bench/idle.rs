//! What a node costs while nothing happens: processor time of a full comparison and of a minute, and memory.

use std::thread;
use std::time::Duration;

use super::SIZES;
use super::bed::{Backend, Bed, Running};
use super::ear::Ear;
use super::figures::{millis, note};
use crate::deadline::seconds;
use crate::failure::Outcome;

const WINDOW: Duration = seconds(20);

/// What a window of time cost.
struct Window {
    cpu: Duration,
    runs: f64,
    /// Seconds that those took.
    took: f64,
    read: bool,
    heard: usize,
}

/// Prints the table.
pub(super) fn measure() -> Outcome {
    println!(
        "{:<22} {:>12} {:>12} {:>14} {:>7} {:>9} {:>9} {:>9}",
        "nothing to do", "CPU (ms/run)", "wall (ms)", "CPU (ms/min)", "writes", "VmRSS", "VmHWM", "RssAnon"
    );
    for backend in [Backend::Vxlan, Backend::HostGw] {
        for peers in SIZES {
            one(backend, peers)?;
        }
    }
    note("a run is a full comparison, as --iptables-resync 1 asks for each second, less what the same time costs without it");
    note("a minute is one as configured by default; writes: notifications from the kernel in both; memory in MiB");
    Ok(())
}

fn one(backend: Backend, peers: u32) -> Outcome {
    let mut bed = Bed::new(backend, peers)?;
    let running = bed.start(&[])?;
    running.process.rest()?;
    let memory = running.process.memory()?;
    let calm = window(&bed, &running)?;
    running.daemon.terminate()?;
    let again = bed.start(&["--iptables-resync", "1"])?;
    let busy = window(&bed, &again)?;
    again.daemon.terminate()?;
    bed.renew()?;
    let runs = busy.runs - calm.runs;
    let cpu = millis(busy.cpu.saturating_sub(calm.cpu)) / runs;
    let wall = busy.took / busy.runs * 1000.0;
    let minute = millis(calm.cpu) * seconds(60).as_secs_f64() / WINDOW.as_secs_f64();
    let [rss, peak, anonymous] = [memory.resident, memory.peak, memory.anonymous].map(mebibytes);
    let label = format!("{}, {peers} peers", backend.name());
    let writes = calm.heard + busy.heard;
    println!("{label:<22} {cpu:>12.1} {wall:>12.1} {minute:>14.0} {writes:>7} {rss:>9.1} {peak:>9.1} {anonymous:>9.1}");
    note(&format!(
        "{:.0} runs in {} s; the time of the last full read {}",
        busy.runs,
        WINDOW.as_secs(),
        if busy.read { "moved on" } else { "stayed: those runs read nothing" }
    ));
    Ok(())
}

/// Watches it do nothing for a while.
fn window(bed: &Bed, running: &Running) -> Outcome<Window> {
    const READ: &str = "netd_last_full_read_timestamp_seconds";
    running.process.rest()?;
    let before = bed.metrics()?;
    running.process.rest()?;
    let mut ear = Ear::open(&bed.namespace)?;
    let cpu = running.process.cpu()?;
    // The time itself is what is measured.
    thread::park_timeout(WINDOW);
    let cpu = running.process.cpu()?.saturating_sub(cpu);
    let heard = ear.forget()?;
    let after = bed.metrics()?;
    let (old, new) = (before.runs(""), after.runs(""));
    let read = after.sum(READ, "") > before.sum(READ, "");
    Ok(Window { cpu, runs: new.0 - old.0, took: new.1 - old.1, read, heard })
}

fn mebibytes(kibibytes: u64) -> f64 {
    super::figures::to_f64(kibibytes) / 1024.0
}
