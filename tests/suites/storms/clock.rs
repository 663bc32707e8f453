//! Clocks that differ: of the machine that wrote a file, and of the netd before. The wall clock of one that runs jumps in
//! [`super::jump`]; the `rules` suite names every place that reads it.
//!
//! The monotonic clock is another one in a time namespace.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, ensure, peer};

use super::bed::{Bed, StorePeer, free_numbers, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("records from the future and from the past", timestamps),
        test("a restart with another monotonic clock", monotonic),
    ]
}

fn timestamps() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let number = free_numbers(&bed.cluster)?[0];
    let year = Duration::from_hours(365 * 24);
    let now = SystemTime::now();
    let times = [now + 20 * year, now - 20 * year, SystemTime::UNIX_EPOCH, now + year, now];
    bed.under_load(|| {
        for (turn, time) in (0..).zip(times.iter().cycle().take(20)) {
            let store_peer = StorePeer { number, host: 100 + turn };
            let path = peer::file(&store, &store_peer.name());
            if turn % 2 == 0 {
                store_peer.write(&store)?;
            } else {
                // In place, with the same length and another time.
                let text = std::fs::read_to_string(&path).context("read a record")?;
                let former = StorePeer { host: store_peer.host - 1, ..store_peer };
                let text = text.replace(&former.address(), &store_peer.address());
                let file = std::fs::File::options().write(true).open(&path).context("open a record")?;
                // In one write: the file is whole at any time.
                file.write_all_at(text.as_bytes(), 0).context("change a record")?;
            }
            let file = std::fs::File::options().write(true).open(&path).context("open a record")?;
            file.set_modified(*time).context("set a record's time")?;
            bed.knows(&[store_peer])?;
        }
        let warned = bed.warned("");
        ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
        Ok(())
    })
}

/// The clock of a netd that starts may be far ahead of that of the one before, or behind.
fn monotonic() -> Outcome {
    let mut bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let number = free_numbers(&bed.cluster)?[0];
    let load = netd_tests::Load::between(&bed.pods.iter().collect::<Vec<_>>())?;
    for (turn, offset) in (0..).zip(["300000000", "0", "1000"]) {
        bed.cluster.take("n1").crash()?;
        bed.cluster.resume_by("n1", |usual| {
            let mut shifted = Command::new("unshare");
            shifted.args(["--time", "--fork", "--kill-child=SIGKILL", "--monotonic", offset, "--boottime", offset]);
            shifted.arg(usual.get_program()).args(usual.get_args());
            shifted
        })?;
        let store_peer = StorePeer { number, host: 100 + turn };
        store_peer.write(&store)?;
        bed.knows(&[store_peer]).map_err(|failure| bed.cluster.with_logs(failure))?;
    }
    load.unharmed().map_err(|failure| bed.cluster.with_logs(failure))
}
