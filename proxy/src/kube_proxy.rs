//! kube-proxy on the same node: whether it runs, and the removal of the rules that it leaves when it ends.
//!
//! kube-proxy's rules and ours may stand together: the kernel translates a connection's address once, by the first rule that matches. So
//! ours are made first, and those of a kube-proxy that has ended are removed afterwards.

mod answer;
mod leftovers;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use dataplane::nft;
use tokio::sync::watch;
use tokio::task;
use tokio::time::sleep;

use self::leftovers::Leftovers;

/// How long until a kube-proxy that runs is looked for again: the kernel sends no event when a process of another container ends.
const WHILE_RUNNING: Duration = Duration::from_secs(2);
/// How long until another attempt after a refusal.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// Says by which sign a kube-proxy is known to run in the calling thread's network namespace; `None` where there is no sign of it.
///
/// The signs, in their order: it answers `/configz` at its port for metrics (10249 on loopback), it answers `/healthz` at its port for
/// health checks (10256 on loopback), or `/proc` has a process of this name in this network namespace. The last sign needs the host's
/// processes. A kube-proxy that listens elsewhere, or that found its ports in use, is not found in a container without them. Blocks for up
/// to some seconds where something listens and is silent.
pub fn running() -> Option<String> {
    let loopback =
        |port| [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let by_metrics = loopback(10249).into_iter().find(|address| answer::has_configuration(*address));
    let by_health = || loopback(10256).into_iter().find(|address| answer::has_health(*address));
    match by_metrics.or_else(by_health) {
        Some(address) => Some(format!("kube-proxy answers on {address}")),
        None => process(Path::new("/proc")).map(|process| format!("kube-proxy runs as process {process}")),
    }
}

/// The number of a process that is called `kube-proxy` and has this network namespace.
fn process(proc: &Path) -> Option<u32> {
    let own = std::fs::read_link(proc.join("thread-self/ns/net")).ok()?;
    let is_one = |process: &u32| {
        let folder = proc.join(process.to_string());
        std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim_end() == "kube-proxy")
            && std::fs::read_link(folder.join("ns/net")).is_ok_and(|namespace| namespace == own)
    };
    let names = std::fs::read_dir(proc).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).find(is_one)
}

/// What a look at kube-proxy's rules has found and done.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// There are none.
    Nothing,
    /// They belong to a kube-proxy that runs, by this sign.
    Running(String),
    /// They are removed.
    Removed(Leftovers),
    /// They stay, for this reason.
    Failed(String),
}

/// Removes the rules of a kube-proxy that has ended or ends later, from when our tables are `programmed`. Ends when nothing is left: a
/// kube-proxy that is started afterwards keeps its rules. To be called within a tokio runtime whose threads are in the node's network
/// namespace.
pub async fn take_over(mut programmed: watch::Receiver<bool>) {
    if programmed.wait_for(|is_programmed| *is_programmed).await.is_err() {
        return;
    }
    let mut former = Seen::Nothing;
    while let Ok(seen) = task::spawn_blocking(look).await {
        match &seen {
            Seen::Nothing => return,
            Seen::Removed(leftovers) => {
                tracing::info!("kube-proxy does not run, and the rules that it left are removed: {leftovers}");
                return;
            }
            Seen::Running(sign) if seen != former => {
                tracing::warn!("{sign}: its rules stay beside netd-proxy's until it ends; delete its DaemonSet");
            }
            Seen::Failed(error) if seen != former => {
                tracing::warn!("the rules that kube-proxy left are not removed: {error}");
            }
            Seen::Running(_) | Seen::Failed(_) => {}
        }
        sleep(if matches!(seen, Seen::Running(_)) { WHILE_RUNNING } else { AFTER_FAILURE }).await;
        former = seen;
    }
}

fn look() -> Seen {
    let removed = || -> Result<Seen, nft::Error> {
        let mut socket = nft::Socket::open()?;
        let (leftovers, operations) = leftovers::read(&mut socket)?;
        if operations.is_empty() {
            return Ok(Seen::Nothing);
        }
        if let Some(sign) = running() {
            return Ok(Seen::Running(sign));
        }
        socket.apply(&operations)?;
        Ok(Seen::Removed(leftovers))
    };
    removed().unwrap_or_else(|error| Seen::Failed(error.to_string()))
}

#[cfg(test)]
mod tests;
