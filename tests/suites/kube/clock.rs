//! The wall clock of netd jumps by decades, and the API server's does not: changes are received all the same. Where the clock makes the
//! server's certificate one of another time, netd says so once, leaves the network as it is, and goes on when the clock is right.

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::suite::from_the_start;
use netd_tests::{Context, Outcome, WallClock, ensure, kernel, seconds, sleep, wall_clock};

use crate::bed::{Bed, routed, vxlan};

pub(crate) fn trial() -> Trial {
    from_the_start("the wall clock jumps, and the certificate is of another time", jumps)
}

fn jumps() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    let clock = WallClock::new(bed.fabric.disk())?;
    let flags = bed.flags("n1");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let daemon = bed.node("n1").launch_netd_by(&flags, |usual| clock.shown_to(usual))?;
    daemon.await_ready()?;
    for (n, (to, ahead)) in (201..).zip(wall_clock::jumps()) {
        clock.set(ahead)?;
        bed.add_peer(&format!("peer-{n}"), n).context(to)?;
        routed(bed.node("n1"), &format!("10.244.{n}.0/24"), true)
            .context(to)
            .map_err(|failure| failure.with("netd", &daemon.log()))?;
    }
    ensure!(!daemon.log().contains(" WARN "), "nothing was wrong, but it said:\n{}", daemon.log());

    let (_, ahead) = wall_clock::jumps()[0];
    clock.set(ahead)?;
    bed.server.stop()?;
    bed.server.resume()?;
    daemon.await_log("certificate expired", seconds(60))?;
    bed.add_peer("peer-211", 211)?;
    sleep(seconds(15));
    let log = daemon.log();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    ensure!(warned.len() <= 3, "it is logged once, but it said:\n{}", warned.join("\n"));
    for n in 201..205 {
        let route = kernel::route(bed.node("n1").namespace(), Family::V4, &format!("10.244.{n}.0/24"))?;
        ensure!(route.is_some(), "the network stays as it is");
    }
    clock.set(0)?;
    routed(bed.node("n1"), "10.244.211.0/24", true)?;
    daemon.await_log("the store can be followed again", seconds(60))
}
