//! Entries of netd's that are removed from the kernel again and again, and the time until netd has put each of them back.

use std::time::{Duration, Instant};

use dataplane::types::Family;

use crate::daemon::Daemon;
use crate::deadline::{eventually, seconds, sleep};
use crate::failure::{Context, Outcome};
use crate::node::Node;
use crate::{ensure, kernel};

/// Between two removals of one entry: netd repairs an entry that is removed more often than ten times in a minute ever more rarely.
const PAUSE: Duration = seconds(7);
/// netd repairs within milliseconds, on a machine that has other work to do too within seconds. A store that does not answer delays its
/// own requests for longer than that.
const REPAIR: Duration = seconds(5);

/// For `length`, removes the route to a peer's range behind a VXLAN tunnel, its neighbour and its FDB entry, in turn, and waits each time
/// until it is there again. Gives the longest of these times.
///
/// # Errors
/// Where an entry does not come back, with the daemon's log.
pub fn again_and_again(node: &Node, daemon: &Daemon, range: &str, length: Duration) -> Outcome<Duration> {
    let namespace = node.namespace();
    let gateway = range.split('/').next().unwrap_or_default();
    let neighbours = kernel::neighbours(namespace)?;
    let mac = neighbours
        .iter()
        .find(|(address, _)| address.to_string() == gateway)
        .context("the peer's neighbour")?
        .1
        .clone();
    let end = kernel::fdb(namespace)?.into_iter().find(|(of, _)| *of == mac).context("the peer's FDB entry")?;
    let route = kernel::route(namespace, Family::V4, range)?.context("the peer's route")?;
    let device = route["dev"].as_str().context("the route has a device")?.to_owned();
    let is_whole = || {
        ensure!(kernel::route(namespace, Family::V4, range)?.as_ref() == Some(&route), "the route is missing");
        ensure!(kernel::neighbours(namespace)? == neighbours, "the neighbour is missing");
        ensure!(kernel::fdb(namespace)?.contains(&end), "the FDB entry is missing");
        Ok(())
    };
    let removals = [
        format!("ip route del {range}"),
        format!("ip neigh del {gateway} dev {device}"),
        format!("bridge fdb del {mac} dev {device} dst {}", end.1),
    ];
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < length {
        for removal in &removals {
            let removed = Instant::now();
            namespace.run(removal)?;
            eventually(REPAIR, &format!("netd has repaired `{removal}`"), is_whole)
                .map_err(|failure| failure.with("netd", &daemon.log()))?;
            longest = longest.max(removed.elapsed());
        }
        sleep(PAUSE);
    }
    Ok(longest)
}
