//! The wall clock of netd jumps by decades, and etcd's does not: the node's lease is renewed in its time, and changes are received.

use std::time::Instant;

use libtest_mimic::Trial;
use netd_tests::suite::from_the_start;
use netd_tests::{Context, Outcome, WallClock, ensure, seconds, sleep, wall_clock};

use crate::bed::{Bed, ENDPOINT, foreign, key_of, routed, vxlan};

const RENEWED: &str = "lease in etcd renewed";

pub(crate) fn trial() -> Trial {
    from_the_start("the wall clock jumps, and the lease is renewed in its time", jumps)
}

fn jumps() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let (n1, clock) = (bed.node("n1"), WallClock::new(bed.fabric.disk())?);
    // The longest margin, of all but a minute: so often the lease is renewed.
    let arguments = [ENDPOINT, "--subnet-lease-renew-margin=1439"];
    let begun = Instant::now();
    let daemon = n1.launch_netd_by(&arguments, |usual| clock.shown_to(usual))?;
    daemon.await_ready()?;
    let (key, _, lease) = key_of(&bed.etcd, bed.machine(), 11)?;
    for (number, (to, ahead)) in (201..).zip(wall_clock::jumps()) {
        clock.set(ahead)?;
        bed.put(&format!("subnets/10.244.{number}.0-24"), &foreign(number)).context(to)?;
        routed(n1, &format!("10.244.{number}.0/24"), true).context(to)?;
        if ahead < 0 {
            // In the first state that is behind, the minute ends.
            daemon.await_log(RENEWED, seconds(90)).context(to)?;
        }
        sleep(seconds(3));
        let (log, minutes) = (daemon.log(), begun.elapsed().as_secs() / 60);
        let renewed = log.matches(RENEWED).count() as u64;
        ensure!(renewed <= minutes, "{to}: the lease was renewed {renewed} times in {minutes} min:\n{log}");
        ensure!(log.lines().count() < 30 && !log.contains(" WARN "), "{to}: it said too much:\n{log}");
        let now = key_of(&bed.etcd, bed.machine(), 11)?;
        ensure!((&now.0, now.2) == (&key, lease), "{to}: the node's key was {key} of lease {lease:x}, and is {now:?}");
    }
    Ok(())
}
