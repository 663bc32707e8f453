//! An API server that is away for a while.

use netd_tests::{Outcome, ensure, seconds};

use crate::bed::{Bed, WEB};
use crate::load::Load;

/// Connections to the API server are refused on the node.
const CUT: &str = "nft add table ip cut
    nft add chain ip cut out '{ type filter hook output priority 0; }'
    nft add rule ip cut out tcp dport 6443 reject with tcp reset";

pub(crate) fn is_survived() -> Outcome {
    let mut bed = Bed::start()?;
    Load::prepare(&bed)?;
    let mut daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    bed.serves(&[1, 2]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    let load = Load::start(&bed)?;
    load.goes_on()?;

    bed.server.stop()?;
    daemon.await_log("the API server cannot be followed", seconds(60))?;
    load.goes_on()?;
    // What changes before netd-proxy is let in again is what it has missed.
    bed.node().shell(CUT)?;
    bed.server.resume()?;
    bed.set_endpoints(&[2, 3])?;
    bed.add_service("later", (std::net::Ipv4Addr::new(10, 96, 0, 81), 8080), 1)?;
    load.goes_on()?;
    bed.node().run("nft delete table ip cut")?;
    bed.serves(&[2, 3]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    let later = (std::net::Ipv4Addr::new(10, 96, 0, 81), 8080);
    let tcp = crate::ask::Protocol::Tcp;
    bed.reaches(crate::bed::POD, later, tcp, &[1]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    daemon.await_log("over: the API server cannot be followed", seconds(60))?;
    let log = daemon.log();
    let lines = log.matches("cannot be followed").count();
    ensure!(lines == 2, "the outage is logged in {lines} lines, its begin and its end are two: {log}");

    // A start without the API server changes nothing.
    bed.server.stop()?;
    daemon.crash()?;
    daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    daemon.await_log("the API server cannot be followed", seconds(60))?;
    load.goes_on()?;
    bed.server.resume()?;
    bed.set_endpoints(&[1])?;
    bed.serves(&[1]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    load.unharmed()?;
    ensure!(bed.node().run("nft list table ip netd-proxy")?.contains(&WEB.0.to_string()), "the table is gone");
    bed.nothing_was_refused()
}
