//! An API server that is away for a while.

use std::net::Ipv4Addr;

use netd_tests::daemon::Daemon;
use netd_tests::{Outcome, ensure, seconds};

use crate::ask::Protocol;
use crate::bed::{Bed, POD};
use crate::load::Load;

/// A Service that is added during the outage.
const LATER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 81), 8080);

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
    bed.add_service("later", LATER, 1)?;
    load.goes_on()?;
    bed.node().run("nft delete table ip cut")?;
    bed.serves(&[2, 3]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    bed.reaches(POD, LATER, Protocol::Tcp, &[1]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    is_logged_once(&daemon)?;
    // An API server that has just started refuses everybody for a moment, so this is asked before the next start.
    bed.nothing_was_refused()?;

    // A start without the API server changes nothing.
    bed.server.stop()?;
    daemon.crash()?;
    daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    daemon.await_log("the API server cannot be followed", seconds(60))?;
    load.goes_on()?;
    bed.server.resume()?;
    bed.set_endpoints(&[1])?;
    bed.serves(&[1]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    is_logged_once(&daemon)?;
    load.unharmed()
}

/// An outage is two lines, one when it begins and one when it is over, and nothing else is a warning.
fn is_logged_once(daemon: &Daemon) -> Outcome {
    daemon.await_log("over: the API server cannot be followed", seconds(60))?;
    let log = daemon.log();
    let is_of_it = |line: &&str| line.contains("cannot be followed");
    let lines = log.lines().filter(is_of_it).count();
    ensure!(lines == 2, "the outage is logged in {lines} lines: {log}");
    let warnings = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    ensure!(warnings.filter(|line| !is_of_it(line)).count() == 0, "something else is a warning: {log}");
    ensure!(!log.contains('\u{1b}'), "the log of a file has colours: {log}");
    Ok(())
}
