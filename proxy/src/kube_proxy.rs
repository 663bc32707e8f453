//! kube-proxy on the same node: whether it runs, and the removal of the rules that it leaves when it ends.
//!
//! kube-proxy's rules and ours may stand together: the kernel translates a connection's address once, by the first rule that matches, and
//! IPVS sees a new connection only after ours. So ours are made first, and those of a kube-proxy that has ended are removed afterwards.

mod answer;
mod leftovers;
mod presence;
mod signs;

use std::time::{Duration, Instant};

use apiserver::chain;
use dataplane::error::KernelError;
use dataplane::nft;
use tokio::sync::watch;
use tokio::task;
use tokio::time::sleep;

use self::leftovers::Leftovers;
use self::presence::Lasting;
pub use self::presence::{Observer, Presence, Signs};
pub(crate) use self::signs::METRICS;

/// How long until a kube-proxy that runs is looked for again: the kernel sends no event when a process of another container ends.
const WHILE_RUNNING: Duration = Duration::from_secs(2);
/// How long until kube-proxy's rules are looked for again.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long until another attempt after a refusal.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// The signs of a kube-proxy on the node, at this moment. The signs of its process need the host's processes; a kube-proxy that listens
/// elsewhere than at its default ports is seen in a container by its rules alone. To be called within a tokio runtime whose threads are
/// in the node's network namespace.
pub async fn signs() -> Signs {
    task::spawn_blocking(signs::read).await.unwrap_or_default()
}

/// True where kube-proxy has rules in the calling thread's network namespace, in any of its modes.
///
/// # Errors
/// Where the kernel does not answer as it should.
pub fn has_rules() -> Result<bool, KernelError> {
    leftovers::are_there()
}

/// True where no kube-proxy can want its port back: there are no rules of one that may start again.
pub(crate) fn is_port_free() -> bool {
    leftovers::are_there().is_ok_and(|are_there| !are_there)
}

/// What a look at kube-proxy's rules has found and done.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// There are none.
    Nothing,
    /// They belong to a kube-proxy that runs, by this sign.
    Running(String),
    /// They may belong to one that starts again.
    Returning,
    /// They belong to nobody, and ours do not stand yet.
    Left,
    /// They are removed.
    Removed(Leftovers),
    /// They are removed but for what must stay a while, for this reason.
    Remains(Leftovers, String),
    /// They stay, for this reason.
    Failed(String),
}

/// Follows kube-proxy's rules beside ours: [removes](take_over) those that are left, then waits until a kube-proxy begins. `begun`
/// is called when one runs and its rules are whole. To be called as [`signs`].
pub(crate) async fn follow(
    programmed: watch::Receiver<bool>,
    port_free: watch::Sender<bool>,
    begun: impl Fn() + Send + Sync + 'static,
) {
    take_over(programmed, port_free, &begun).await;
    let mut rules = Lasting::default();
    loop {
        // Rules that cannot be read have not come.
        let are_there = task::spawn_blocking(leftovers::are_there).await.is_ok_and(Result::unwrap_or_default);
        if rules.lasts(are_there, Instant::now()) {
            break;
        }
        sleep(ARRIVAL).await;
    }
    tracing::warn!("kube-proxy has begun and has made rules beside netd-proxy's");
    begun();
}

/// Removes the rules of a kube-proxy that has ended or ends later, from when our tables are `programmed`. Ends when nothing is left.
/// `port_free` becomes true when no kube-proxy wants its port for metrics.
async fn take_over(mut programmed: watch::Receiver<bool>, port_free: watch::Sender<bool>, begun: &(impl Fn() + Sync)) {
    let mut running = Lasting::default();
    let mut observer = Observer::default();
    let mut former = Seen::Nothing;
    let mut has_removed = false;
    loop {
        let may_remove = *programmed.borrow();
        let look = task::spawn_blocking(move || (look(&mut observer, may_remove, has_removed), observer));
        let Ok((seen, returned)) = look.await else { return };
        observer = returned;
        if matches!(seen, Seen::Nothing | Seen::Left | Seen::Removed(_) | Seen::Remains(..)) {
            port_free.send_replace(true);
        }
        if running.lasts(matches!(seen, Seen::Running(_)), Instant::now()) {
            begun();
        }
        match &seen {
            Seen::Nothing => return,
            Seen::Removed(leftovers) => {
                tracing::info!("kube-proxy does not run, and the rules that it left are removed: {leftovers}");
                return;
            }
            Seen::Remains(leftovers, why) if !has_removed => {
                tracing::info!("kube-proxy does not run, and the rules that it left are removed: {leftovers}; {why}");
                has_removed = true;
            }
            Seen::Running(sign) if seen != former => {
                tracing::warn!("{sign}: its rules stay beside netd-proxy's until it ends; delete its DaemonSet");
            }
            Seen::Failed(error) if seen != former => {
                tracing::warn!("the rules that kube-proxy left are not removed: {error}");
            }
            Seen::Left => {
                if programmed.wait_for(|is_programmed| *is_programmed).await.is_err() {
                    return;
                }
                continue;
            }
            Seen::Running(_) | Seen::Returning | Seen::Failed(_) | Seen::Remains(..) => {}
        }
        let pause = match seen {
            Seen::Failed(_) => AFTER_FAILURE,
            Seen::Remains(..) => ARRIVAL,
            _ => WHILE_RUNNING,
        };
        sleep(pause).await;
        former = seen;
    }
}

fn look(observer: &mut Observer, may_remove: bool, has_removed: bool) -> Seen {
    let mut removed = || -> Result<Seen, KernelError> {
        let mut socket = nft::Socket::open()?;
        let found = leftovers::read(&mut socket)?;
        if found.is_empty() {
            return Ok(Seen::Nothing);
        }
        if has_removed && found.has_services {
            observer.rules_made();
        }
        match observer.judge(&signs::with_rules(true), Instant::now()) {
            Presence::Running(sign) => return Ok(Seen::Running(sign)),
            Presence::Beginning(_) | Presence::Returning(_) => return Ok(Seen::Returning),
            Presence::Absent => {}
        }
        if !may_remove {
            return Ok(Seen::Left);
        }
        Ok(match found.remove(&mut socket)? {
            (leftovers, None) => Seen::Removed(leftovers),
            (leftovers, Some(why)) => Seen::Remains(leftovers, why),
        })
    };
    removed().unwrap_or_else(|error| Seen::Failed(chain(&error)))
}

#[cfg(test)]
mod tests;
