//! The wall clock of every netd jumps by decades while it runs, and what netd does takes no notice: it goes by the monotonic one.

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::namespace::{self, printed};
use netd_tests::suite::from_the_start;
use netd_tests::{Context, Outcome, WallClock, ensure, eventually, kernel, seconds, sleep, wall_clock};
use serde_json::Value;

use super::bed::{Bed, StorePeer, free_numbers, vxlan};

/// A change of a record, a repair, and what comes round in ten seconds make no more lines than this.
const FEW: usize = 20;

pub(crate) fn trial() -> Trial {
    from_the_start("the wall clock jumps under a running netd", jump)
}

fn jump() -> Outcome {
    let mut bed = Bed::new(&vxlan())?;
    let clock = WallClock::new(bed.cluster.fabric.disk())?;
    for node in ["n1", "n2"] {
        bed.cluster.take(node).terminate()?;
        bed.cluster.resume_by(node, |usual| clock.shown_to(usual))?;
    }
    let number = free_numbers(&bed.cluster)?[0];
    let store_peer = StorePeer { number, host: 100 };
    store_peer.write(&bed.cluster.fabric.store)?;
    bed.knows(&[store_peer])?;
    bed.under_load(|| {
        for (host, (to, ahead)) in (101..).zip(wall_clock::jumps()) {
            let lines = bed.n1().log().lines().count();
            clock.set(ahead)?;
            goes_on(&bed, StorePeer { number, host }).context(to)?;
            shows(&bed, &clock, ahead).context(to)?;
            told_little(&bed, lines, ahead).context(to)?;
        }
        Ok(())
    })
}

/// What changes is followed, what is broken is healed, and then there is rest.
fn goes_on(bed: &Bed, store_peer: StorePeer) -> Outcome {
    let namespace = bed.cluster.node("n1").namespace();
    store_peer.write(&bed.cluster.fabric.store)?;
    bed.knows(&[store_peer])?;
    namespace.run(&format!("ip route del {}", store_peer.subnet()))?;
    eventually(seconds(5), "the route is back", || {
        kernel::route(namespace, Family::V4, &store_peer.subnet())?.context("it is not").map(drop)
    })?;
    // One full read of what has no notifications, and two polls of the store.
    sleep(seconds(11));
    bed.rests()
}

/// The status has the time of its clock, and ages that can be.
fn shows(bed: &Bed, clock: &WallClock, ahead: i64) -> Outcome {
    let n1 = bed.cluster.node("n1");
    let ask = |arguments: &[&str]| {
        let mut command = clock.shown_to(&n1.netd("status", arguments)?);
        printed("netd status", &n1.namespace().output(&mut command)?)
    };
    let document: Value = serde_json::from_str(&ask(&["-o", "json"])?).context("read the status")?;
    is_now(document["lastReconcile"]["at"].as_str().context("it has reconciled")?, ahead)?;
    let table = ask(&[])?;
    // However long ago that is by the clocks between: all of it began with this test.
    for behind in ["reconciled  ", "last event ", "running     for "] {
        let age = table.split(behind).nth(1).and_then(|rest| rest.split_whitespace().next());
        let age = age.context(format!("there is no age behind {behind:?} in\n{table}"))?;
        let (count, unit) = age.split_at(age.len().saturating_sub(1));
        ensure!(count.parse::<u32>().is_ok() && ["s", "m"].contains(&unit), "it was {age} behind {behind:?}:\n{table}");
    }
    Ok(())
}

/// Nothing was wrong, and little happened.
fn told_little(bed: &Bed, before: usize, ahead: i64) -> Outcome {
    let log = bed.n1().log();
    let lines: Vec<&str> = log.lines().skip(before).collect();
    ensure!((1..=FEW).contains(&lines.len()), "it said {} lines:\n{}", lines.len(), lines.join("\n"));
    let warned = bed.warned("");
    ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
    is_now(lines.last().and_then(|line| line.split_whitespace().next()).unwrap_or_default(), ahead)
}

/// A point in time that a netd wrote just now, by a clock that is so far ahead of this machine's.
fn is_now(written: &str, ahead: i64) -> Outcome {
    let text = namespace::own().run(&format!("date -u -d {written} +%s"))?;
    let off = text.trim().parse::<i64>().context("read what date printed")? - (wall_clock::now() + ahead);
    ensure!(off.abs() < 120, "netd wrote {written}, which is {off} s off the time that it was shown");
    Ok(())
}
