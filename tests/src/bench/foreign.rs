//! An `nf_tables` storm in another program's table: what it costs netd.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::bed::{Backend, Bed, Running};
use super::figures::{millis, note};
use crate::deadline::sleep;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// How many elements are added, and then removed.
const ELEMENTS: u32 = 100_000;
/// Elements of one transaction: a large Service's, or a list of addresses that is renewed in pieces.
const OF_ONE: u32 = 500;
/// Peers of netd, which do not matter here.
const PEERS: u32 = 10;

/// Prints the table.
pub(super) fn measure() -> Outcome {
    println!(
        "{:<52} {:>14} {:>14} {:>12} {:>9}",
        "elements of another table", "netd CPU (ms)", "at rest (ms)", "storm (ms)", "runs"
    );
    let bed = Bed::new(Backend::Vxlan, PEERS)?;
    let running = bed.start(&[])?;
    bed.namespace.shell("nft add table inet others; nft add set inet others pool '{ type ipv4_addr; }'")?;
    for verb in ["add", "delete"] {
        let script = storm(verb);
        running.process.rest()?;
        let (storm, runs, took) = cost(&bed, &running, || nft(&bed.namespace, &script))?;
        // The same time without the storm: netd looks at its store every few seconds.
        let (rest, _, _) = cost(&bed, &running, || {
            sleep(took);
            Ok(())
        })?;
        println!(
            "{:<52} {:>14.0} {:>14.0} {:>12.0} {:>9}",
            format!("{ELEMENTS} {verb}ed, {OF_ONE} in a transaction").replace("eed", "ed"),
            millis(storm),
            millis(rest),
            millis(took),
            runs
        );
    }
    note("processor time of netd in steps of 10 ms, until it rests; at rest: in as much time without a storm");
    running.daemon.terminate().map(drop)
}

/// What netd uses up while `body` runs and until it rests; how often it compares meanwhile; how long `body` takes.
fn cost(bed: &Bed, running: &Running, body: impl FnOnce() -> Outcome) -> Outcome<(Duration, f64, Duration)> {
    let runs = bed.metrics()?.runs("").0;
    running.process.rest()?;
    let cpu = running.process.cpu()?;
    let begun = Instant::now();
    body()?;
    let took = begun.elapsed();
    running.process.rest()?;
    let cpu = running.process.cpu()?.saturating_sub(cpu);
    Ok((cpu, bed.metrics()?.runs("").0 - runs, took))
}

/// The lines for `nft -f`: a line is a transaction where each is given to its own `nft`, so they are separated by hand.
fn storm(verb: &str) -> Vec<String> {
    let mut scripts = Vec::new();
    for first in (0..ELEMENTS).step_by(OF_ONE as usize) {
        let mut line = format!("{verb} element inet others pool {{ ");
        for number in first..first + OF_ONE {
            let [_, high, middle, low] = number.to_be_bytes();
            let _ = write!(line, "100.{high}.{middle}.{low}, ");
        }
        line.push_str("}\n");
        scripts.push(line);
    }
    scripts
}

/// Each script is a transaction of its own; one `nft` commits them one after the other.
fn nft(namespace: &Namespace, scripts: &[String]) -> Outcome {
    let folder = tempfile::tempdir().context("make a folder for scripts")?;
    let path = folder.path().join("storm.nft");
    std::fs::write(&path, scripts.concat()).context("write a script")?;
    namespace.shell(&format!("nft -i <{} >/dev/null", path.display())).map(drop)
}
