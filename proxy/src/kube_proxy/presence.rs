//! Whether kube-proxy runs on the node, by its signs over time. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long one who answers as kube-proxy does has time for its first rules. With 10,000 Services kube-proxy needs half of that.
const BEGIN: Duration = Duration::from_mins(1);
/// How long kube-proxy's rules are left to a kube-proxy that is not seen. One whose ports were in use tries them again every five seconds.
const RETURN: Duration = Duration::from_secs(15);

/// What one look at the node has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signs {
    /// A process of root's with kube-proxy's name, in the same network namespace.
    pub process: Option<u32>,
    /// Where a listener of root's answers as kube-proxy does.
    pub answer: Option<SocketAddr>,
    /// The kernel has rules as kube-proxy makes them.
    pub has_rules: bool,
}

/// What the signs mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// None runs. Rules that are there were left by one that has ended.
    Absent,
    /// One runs, for this reason.
    Running(String),
    /// One may have begun, and may make its rules next, for this reason.
    Beginning(String),
    /// One may start again and go on with its rules, for this reason.
    Returning(String),
}

/// What is not clear yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Somebody answers, and there are no rules.
    Rules,
    /// There are rules, and nobody is seen.
    Process,
}

/// Judges the signs of one look after the other.
#[derive(Debug, Default)]
pub struct Observer {
    /// What is not clear, and since when.
    doubt: Option<(Doubt, Instant)>,
    /// The rules were made a short time ago.
    has_seen_rules_made: bool,
}

impl Observer {
    /// What the signs of a look at `now` mean.
    pub fn judge(&mut self, signs: &Signs, now: Instant) -> Presence {
        self.has_seen_rules_made &= signs.has_rules;
        match signs {
            Signs { answer: Some(address), has_rules: true, .. } => {
                self.running(format!("kube-proxy answers on {address}"))
            }
            Signs { process: Some(process), .. } => self.running(format!("kube-proxy runs as process {process}")),
            Signs { answer: Some(address), .. } => {
                if self.lasts(Doubt::Rules, BEGIN, now) {
                    return Presence::Absent;
                }
                Presence::Beginning(format!(
                    "somebody answers on {address} as kube-proxy does, and there are no rules of kube-proxy: \
                     waiting for them for a minute"
                ))
            }
            Signs { has_rules: true, .. } if self.has_seen_rules_made => Presence::Running(
                "kube-proxy has made its rules while netd's proxy ran, and answers nowhere".to_owned(),
            ),
            Signs { has_rules: true, .. } => {
                if self.lasts(Doubt::Process, RETURN, now) {
                    return Presence::Absent;
                }
                Presence::Returning(
                    "there are rules of kube-proxy, and no kube-proxy is seen: waiting for it for 15 seconds"
                        .to_owned(),
                )
            }
            Signs { .. } => {
                self.doubt = None;
                Presence::Absent
            }
        }
    }

    /// Rules were seen to be made, by a kube-proxy that runs then.
    pub fn rules_made(&mut self) {
        self.has_seen_rules_made = true;
    }

    fn running(&mut self, sign: String) -> Presence {
        *self = Self::default();
        Presence::Running(sign)
    }

    /// True where the doubt has lasted so long.
    fn lasts(&mut self, doubt: Doubt, time: Duration, now: Instant) -> bool {
        let since = self.doubt.filter(|(former, _)| *former == doubt).map_or(now, |(_, since)| since);
        self.doubt = Some((doubt, since));
        now.duration_since(since) >= time
    }
}

/// Sees that something lasts: that the rules of a kube-proxy which has begun are whole.
#[derive(Debug, Default)]
pub(super) struct Lasting(Option<Instant>);

impl Lasting {
    /// True where it is there, and has been so at each look for a while.
    pub(super) fn lasts(&mut self, is_there: bool, now: Instant) -> bool {
        self.0 = is_there.then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now.duration_since(since) >= RETURN)
    }
}

#[cfg(test)]
mod tests;
